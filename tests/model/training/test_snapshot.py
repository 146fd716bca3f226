"""A snapshot is taken once, survives every stop bit for bit, and is in all later checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.model.checkpoint import CheckpointError, decode_checkpoint, load_checkpoint
from darkroom.model.config import Recipe
from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.training.trainer import Trainer
from tests.model.small import random_dataset, small_recipe

CPU = torch.device("cpu")
AT = 36  # a step has 8 images, so the snapshot is taken at 40


def recipe(**changes: Any) -> Recipe:
    return small_recipe(**{"training__guide_snapshot_images": AT} | changes)


def trainer(of: Recipe | None = None, steps: int = 0) -> Trainer:
    made = Trainer(of or recipe(), random_dataset(), CPU)
    for _ in range(steps):
        made.step()
    return made


def test_it_is_the_average_of_its_moment_and_stays_so() -> None:
    running = trainer(steps=4)
    assert running.snapshot is None
    running.step()
    kept = running.snapshot
    assert kept is not None
    assert kept.images_seen == running.images_seen == 40
    expected = {name: value.clone() for name, value in running.ema.weights.items()}
    for _ in range(3):
        running.step()
    assert running.snapshot is kept
    assert kept.weights.keys() == expected.keys()
    assert all(torch.equal(kept.weights[name], value) for name, value in expected.items())
    assert not all(torch.equal(running.ema.weights[name], value) for name, value in expected.items())


def test_keeping_it_does_not_change_the_training() -> None:
    keeping, plain = trainer(steps=8), trainer(small_recipe(), steps=8)
    assert all(torch.equal(value, plain.ema.weights[name]) for name, value in keeping.ema.weights.items())


@pytest.mark.parametrize("stop", [4, 5, 7])
def test_a_run_that_was_stopped_writes_the_checkpoint_of_one_that_was_not(stop: int) -> None:
    resumed = trainer()
    resumed.resume(trainer(steps=stop).state(), source="the state")
    for _ in range(8 - stop):
        resumed.step()
    one, other = (decode_checkpoint(of.checkpoint(), source="x") for of in (resumed, trainer(steps=8)))
    assert one.header == other.header
    assert one.snapshot is not None
    assert other.snapshot is not None
    for mine, theirs in ((one.weights, other.weights), (one.snapshot, other.snapshot)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_whole_run_by_its_own_snapshot(tmp_path: Path) -> None:
    """Checkpoints, samples and denoisers before the snapshot are guided by no class; those after it carry it."""
    wanted = recipe(sampling={"steps": 2, "guidance": 2.0, "guide": "snapshot"}, training__sample_every_images=24)
    assert train(wanted, random_dataset(), FolderRecord(tmp_path, "small"), device=CPU).finished
    checkpoints = [load_checkpoint(path) for path in sorted((tmp_path / "checkpoints").iterdir())]
    assert [one.header.images_seen for one in checkpoints] == [16, 32, 48, 64, 80, 96]
    for one in checkpoints:
        carried = one.header.images_seen >= 40
        assert (one.header.snapshot is not None) == carried
        assert one.header.sampling.guide == ("snapshot" if carried else "unconditional")
        assert (one.denoiser().snapshot is not None) == carried
        assert one.header.recipe == wanted
    snapshots = [one.snapshot for one in checkpoints[2:]]
    assert all(torch.equal(one[name], snapshots[0][name]) for one in snapshots if one for name in one if snapshots[0])
    assert (tmp_path / "samples" / "0000000024.png").exists()
    assert (tmp_path / "samples" / "0000000096.png").exists()


def test_a_continuing_run_keeps_the_snapshot_takes_its_own_or_is_refused() -> None:
    state, without = trainer(steps=8).state(), trainer(small_recipe(), steps=8).state()
    longer = recipe(training__total_images=200)
    going_on = trainer(longer)
    going_on.continue_from(state, source="the state")
    assert going_on.snapshot is not None
    assert going_on.snapshot.images_seen == 40

    later = trainer(
        longer.model_copy(update={"training": longer.training.model_copy(update={"guide_snapshot_images": 70})})
    )
    later.continue_from(state, source="the state")
    assert later.snapshot is None
    later.step()
    assert later.snapshot is not None
    assert later.snapshot.images_seen == 72

    none = trainer(small_recipe())
    none.continue_from(state, source="the state")
    assert none.snapshot is None
    with pytest.raises(CheckpointError, match="has seen 64 images and holds no snapshot"):
        trainer(longer).continue_from(without, source="the state")


def test_recipes_that_can_have_no_snapshot_are_refused() -> None:
    with pytest.raises(ValueError, match="guide_snapshot_images 97 is more than"):
        recipe(training__guide_snapshot_images=97)
    with pytest.raises(ValueError, match=r"needs training\.guide_snapshot_images"):
        small_recipe(sampling__guide="snapshot")
