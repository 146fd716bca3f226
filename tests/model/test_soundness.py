"""Weights and states with numbers or images that are not finite are never stored, resumed or sampled from."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from darkroom.model.checkpoint import CheckpointError, decode_checkpoint, encode_checkpoint
from darkroom.model.sampling.draw import draws_finite
from darkroom.model.training.run import StateStart, train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.training.trainer import Trainer, TrainingDiverged
from tests.model.small import random_dataset, small_denoiser, small_recipe
from tests.model.training.memory_record import MemoryRecord

CPU = torch.device("cpu")
TOO_FAST = {"optimizer__learning_rate": 2000.0, "optimizer__warmup_images": 0, "optimizer__decay": "constant"}


def poison_network(trainer: Trainer) -> None:
    trainer.network.stem.weight.data[0, 0, 0, 0] = math.nan


def poison_average(trainer: Trainer) -> None:
    trainer.ema.weights["stem.bias"][0] = math.inf


def poison_optimizer(trainer: Trainer) -> None:
    trainer.optimizer.state[trainer.network.stem.bias]["exp_avg"][0] = -math.inf


def poison_snapshot(trainer: Trainer) -> None:
    assert trainer.snapshot is not None
    trainer.snapshot.weights["stem.bias"][0] = math.nan


POISONS = {
    "model.stem.weight": poison_network,
    "ema.stem.bias": poison_average,
    "optimizer.stem.bias.exp_avg": poison_optimizer,
    "snapshot.stem.bias": poison_snapshot,
}


def poisoning(monkeypatch: pytest.MonkeyPatch, poison: Callable[[Trainer], None], images_seen: int) -> None:
    """Return a step that poisons the trainer when it ends at `images_seen`."""
    advance = Trainer.advance

    def poisoned(trainer: Trainer) -> None:
        advance(trainer)
        if trainer.images_seen == images_seen:
            poison(trainer)

    monkeypatch.setattr(Trainer, "advance", poisoned)


@pytest.mark.parametrize(("name", "poison"), POISONS.items(), ids=POISONS)
def test_a_checkpoint_that_is_not_finite_is_not_stored_and_the_run_resumes_from_the_one_before(
    name: str, poison: Callable[[Trainer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, dataset, record = small_recipe(training__guide_snapshot_images=8), random_dataset(), MemoryRecord()
    with monkeypatch.context() as patch:
        poisoning(patch, poison, 48)
        with pytest.raises(TrainingDiverged) as raised:
            train(recipe, dataset, record, device=CPU)
    assert f"{name} holds numbers that are not finite after 48 images" in str(raised.value)
    assert "checkpoint 32 is the last good checkpoint" in str(raised.value)
    assert "optimizer.learning_rate" in str(raised.value)
    assert list(record.checkpoints) == [16, 32]

    slower = small_recipe(training__guide_snapshot_images=8, optimizer__learning_rate=5e-4)
    start = StateStart("job 1", record.checkpoints[32][1])
    on = MemoryRecord()
    assert train(slower, dataset, on, device=CPU, start=start).finished
    assert list(on.checkpoints) == [48, 64, 80, 96]
    last = decode_checkpoint(on.checkpoints[96][0], source="the last")
    assert all(value.isfinite().all() for value in last.weights.values())

    assert train(recipe, dataset, record, device=CPU).finished  # like a retry after the cause is removed
    undisturbed = MemoryRecord()
    train(recipe, dataset, undisturbed, device=CPU)
    again = decode_checkpoint(record.checkpoints[96][0], source="again")
    expected = decode_checkpoint(undisturbed.checkpoints[96][0], source="expected")
    assert all(torch.equal(value, expected.weights[key]) for key, value in again.weights.items())


def test_finite_weights_that_draw_nothing_finite_are_not_kept() -> None:
    """At this learning rate all losses and weights stay finite, but images are not."""
    recipe, record = small_recipe(training__total_images=16, **TOO_FAST), MemoryRecord()
    trainer = Trainer(recipe, random_dataset(), CPU)
    while not trainer.ended:
        assert math.isfinite(trainer.step()[0])
    assert all(value.isfinite().all() for value in trainer.ema.weights.values())
    with pytest.raises(TrainingDiverged, match=r"draws images that are not finite after 16 images; no checkpoint"):
        train(recipe, random_dataset(), record, device=CPU)
    assert not record.checkpoints


@pytest.mark.parametrize("poison", [poison_network, poison_average, poison_optimizer])
def test_a_kept_state_that_is_not_finite_is_passed_over(
    poison: Callable[[Trainer], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Older versions stored such states."""
    recipe, dataset, record = small_recipe(), random_dataset(), MemoryRecord()
    trainer = Trainer(recipe, dataset, CPU)
    for images in (16, 32):
        while trainer.images_seen < images:
            trainer.step()
        if images == 32:
            poison(trainer)
        record.checkpoints[images] = trainer.checkpoint(), trainer.state()
    broken = record.checkpoints[32][1]
    with caplog.at_level(logging.WARNING):
        assert train(recipe, dataset, record, device=CPU).finished
    assert ("begin", 16) in record.calls
    assert "state 32" in caplog.text
    assert "not finite" in caplog.text

    (tmp_path / "state.safetensors").write_bytes(broken)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: .* not finite"):
        train(recipe, dataset, FolderRecord(tmp_path, "small"), device=CPU)
    with pytest.raises(CheckpointError, match=r"job 1: .* not finite"):
        train(recipe, dataset, MemoryRecord(), device=CPU, start=StateStart("job 1", broken))


def test_weights_files_that_are_not_finite_are_refused_in_a_sentence() -> None:
    trainer = Trainer(small_recipe(training__guide_snapshot_images=8), random_dataset(), CPU)
    trainer.step()
    good = decode_checkpoint(trainer.checkpoint(), source="good")
    assert good.snapshot is not None
    for where in ("stem.bias", "snapshot.stem.bias"):
        broken = {"weights": dict(good.weights), "snapshot": dict(good.snapshot)}
        of = broken["snapshot" if where.startswith("snapshot.") else "weights"]
        of["stem.bias"] = of["stem.bias"].clone().fill_(math.inf)
        data = encode_checkpoint(good.header, broken["weights"], broken["snapshot"])
        with pytest.raises(CheckpointError, match=f"^here: {where} holds numbers that are not finite; .*earlier"):
            decode_checkpoint(data, source="here")

    # These weights are finite, but so large that the head's sums are not.
    huge = {name: value * (1e38 if name == "head.weight" else 1.0) for name, value in good.weights.items()}
    for weights, snapshot in ((huge, good.snapshot), (good.weights, huge)):
        checkpoint = decode_checkpoint(encode_checkpoint(good.header, weights, snapshot), source="here")
        with pytest.raises(CheckpointError, match="draws images that are not finite"):
            checkpoint.denoiser()


def test_the_trial_takes_ten_calls_of_one_row() -> None:
    denoiser, rows = small_denoiser(), []
    network = denoiser.network

    def counted(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return network(x, t, labels)

    denoiser.network = counted
    assert draws_finite(denoiser)
    assert rows == [1] * 10
