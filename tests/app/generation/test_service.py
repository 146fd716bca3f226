"""Laws that all sampling routes share: how a class is found, and that a client that does not read costs no memory."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.app.engine.request import Event, Finished, Preview, Progress, RowDone, Timings
from darkroom.app.generation.drawing import _Events
from darkroom.app.generation.service import find_class
from darkroom.app.http.problems import Problem
from darkroom.app.versions.version import Version
from darkroom.model.checkpoint import decode_checkpoint
from tests.app.served import tiny_weights

IMAGE = np.zeros((8, 8, 1), dtype=np.uint8)


def _version(*class_names: str) -> Version:
    checkpoint = decode_checkpoint(tiny_weights(class_names=class_names), source="test")
    return Version("tiny", checkpoint.digest, checkpoint.header)


def _headed(class_names: list[str]) -> Version:
    """Return a version for tests that read only its header."""
    header = decode_checkpoint(tiny_weights(), source="test").header
    return Version("tiny", "sha256:0", header.model_copy(update={"class_names": tuple(class_names)}))


def test_case_matters_only_between_names_that_differ_by_it() -> None:
    letters = _version("A", "a", "B")
    assert [find_class(letters, name, "/class") for name in ("A", "a", "B", "b", " b ")] == [0, 1, 2, 2, 2]
    with pytest.raises(Problem) as refusal:
        find_class(_version("Aa", "aA"), "aa", "/class")
    assert refusal.value.status == 422
    assert "Aa, aA" in str(refusal.value.extra)


FOLDERS = ("1", "10", "11", "12", *map(str, range(2, 10)))
"""Names of class folders in the order of data sets."""


@pytest.mark.parametrize("reference", ["2", 2, " 2 "])
def test_a_name_wins_over_an_index(reference: str | int) -> None:
    assert FOLDERS[find_class(_version(*FOLDERS), reference, "/class")] == "2"
    padded = _version("0001", "0002", "0010")
    assert find_class(padded, reference, "/class") == 2, "no class has this name, so it is an index"
    assert [find_class(padded, name, "/class") for name in ("0001", "0002", "0010")] == [0, 1, 2]


@pytest.mark.parametrize("reference", ["12", 12, "02", "-1", -1, "1.0", "²", "9" * 5000, ""])
def test_a_reference_that_is_neither_name_nor_index_is_refused_with_both(reference: str | int) -> None:
    with pytest.raises(Problem) as refusal:
        find_class(_version("A", "b", "0002"), reference, "/class")
    assert refusal.value.status == 422
    assert "name one of A, b, 0002, or an index 0..2" in str(refusal.value.extra)


@given(st.lists(st.text("ab01 ", max_size=3), min_size=1, max_size=6, unique=True), st.data())
def test_every_class_is_found_by_its_name_and_an_index_only_if_no_class_has_it_as_name(
    names: list[str], data: st.DataObject
) -> None:
    version = _headed(names)
    index = data.draw(st.integers(0, len(names) - 1))
    assert find_class(version, names[index], "/class") == index
    if str(index) not in {name.strip() for name in names}:
        assert find_class(version, index, "/class") == find_class(version, str(index), "/class") == index


async def test_only_the_newest_unread_preview_of_a_row_is_kept() -> None:
    events, rows, steps = _Events(progress=True), 8, 500
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


async def test_progress_that_nobody_reads_does_not_wake_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Event] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", lambda _, event: sent.append(event))
    events = _Events(progress=False)
    for event in (done := RowDone(0, IMAGE), Progress(1, 2), Progress(2, 2), finished := Finished(Timings(0.0, 1.0))):
        events.sink(event)
    assert sent == [done, finished]
