"""A run whose recipe asks for a frontier measures that of its last checkpoint, completely even after a stop."""

from pathlib import Path
from typing import Any

import pytest
import torch

import darkroom.model.metrics.frontier_measurement
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import Recipe, RecipeError
from darkroom.model.metrics.frontier import frontiers
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord
from tests.model.small import random_dataset, small_recipe
from tests.model.training.memory_record import MemoryRecord

CPU = torch.device("cpu")
END = 96
ASKED = {
    "every_images": 40,
    "images": 4,
    "guidance": 2.0,
    "frontier_steps": [3, 2],
    "frontier_samplers": ["unipc", "ddim"],
}


def recipe() -> Recipe:
    return small_recipe(evaluation=ASKED)


def settings_of(record: MemoryRecord) -> list[tuple[object, ...]]:
    return [tuple(one.protocol[name] for name in ("sampler", "steps", "guidance")) for one in record.points[END]]


@pytest.fixture
def references(tmp_path: Path) -> FolderReferences:
    return FolderReferences(tmp_path / "references")


def test_the_last_checkpoint_has_the_frontier_that_was_asked_for(references: FolderReferences) -> None:
    record = MemoryRecord()
    assert train(recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert settings_of(record) == [("unipc", 2, 2.0), ("ddim", 2, 2.0), ("unipc", 3, 2.0), ("ddim", 3, 2.0)]
    assert list(record.points) == [END]
    assert [len(found) for found in record.evaluations.values()] == [1, 1, 1], (
        "frontier points must not count as evaluations"
    )


def test_a_stop_on_the_way_loses_no_point_and_repeats_none(references: FolderReferences) -> None:
    record, whole = MemoryRecord(), MemoryRecord()
    assert train(recipe(), random_dataset(), whole, device=CPU, references=references).finished
    stopped = train(
        recipe(),
        random_dataset(),
        record,
        device=CPU,
        references=references,
        should_stop=lambda: len(record.points.get(END, [])) == 3,
    )
    assert not stopped.finished
    assert len(record.points[END]) == 3
    assert train(recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert record.calls.count(("frontier", END)) == 4
    assert [one.value for one in record.points[END]] == [one.value for one in whole.points[END]]


def test_a_point_that_fails_ends_the_frontier_and_not_the_run(
    references: FolderReferences, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = darkroom.model.metrics.frontier_measurement.evaluate

    def evaluate(*arguments: Any, **named: Any) -> Any:
        if arguments[4].sampler == "ddim":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(*arguments, **named)

    monkeypatch.setattr(darkroom.model.metrics.frontier_measurement, "evaluate", evaluate)
    record = MemoryRecord()
    assert train(recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert settings_of(record) == [("unipc", 2, 2.0)]
    assert record.failures == [("frontier", END, "OutOfMemoryError: CUDA out of memory")]


def test_a_folders_last_weights_file_carries_it(tmp_path: Path, references: FolderReferences) -> None:
    record = FolderRecord(tmp_path, "small")
    for _ in range(2):
        assert train(recipe(), random_dataset(), record, device=CPU, references=references).finished
        header = load_checkpoint(record.checkpoint_path(END)).header
        (found,) = frontiers(header.evaluations, header.model.schedule)
        assert len(found.points) == len(header.evaluations) == 4


def test_a_frontier_is_of_a_distance_that_is_measured() -> None:
    with pytest.raises(RecipeError, match="needs fid"):
        small_recipe(evaluation=ASKED | {"metrics": ["kid"]})
