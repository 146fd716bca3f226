"""Laws of what all sampling routes share: which class is meant, and what a client who does not read costs."""

import asyncio

import numpy as np
import pytest

from app.api.problems import Problem
from app.api.sampling import _Events, find_class
from app.catalog import Version
from app.engine.request import Event, Finished, Preview, Progress, RowDone, Timings
from model.checkpoint import decode_checkpoint
from tests.app.served import tiny_weights

IMAGE = np.zeros((8, 8, 1), dtype=np.uint8)


def _version(*class_names: str) -> Version:
    checkpoint = decode_checkpoint(tiny_weights(class_names=class_names), source="test")
    return Version("tiny", checkpoint.digest, checkpoint.header)


def test_case_counts_only_where_it_tells_classes_apart() -> None:
    letters = _version("A", "a", "B")
    assert [find_class(letters, name, "/class") for name in ("A", "a", "B", "b", " b ")] == [0, 1, 2, 2, 2]
    with pytest.raises(Problem) as refusal:
        find_class(_version("Aa", "aA"), "aa", "/class")
    assert refusal.value.status == 422
    assert "Aa, aA" in str(refusal.value.extra)


async def test_what_is_not_read_is_kept_once_a_row() -> None:
    events, rows, steps = _Events(), 8, 500
    for step in range(1, steps):
        for row in range(rows):
            events.sink(Preview(row, step, steps, IMAGE))
        events.sink(Progress(step * rows, steps * rows))
    for row in range(rows):
        events.sink(RowDone(row, IMAGE))
    events.sink(Finished(Timings(0.0, 1.0)))
    await asyncio.sleep(0.0)

    taken: list[Event] = []
    while (event := await events.next(0.01)) is not None:
        taken.append(event)
    assert [(event.row, event.step) for event in taken if isinstance(event, Preview)] == [
        (row, steps - 1) for row in range(rows)
    ]
    assert [event.row for event in taken if isinstance(event, RowDone)] == list(range(rows))
    assert sum(isinstance(event, Progress) for event in taken) == 1
    assert isinstance(taken[-1], Finished)
