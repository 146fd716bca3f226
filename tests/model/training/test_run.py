"""The training loop: it learns, it stops at values that are not finite, and it counts in images."""

import csv
import itertools
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import darkroom.model.training.trainer
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import OptimizerConfig
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.forward import add_noise
from darkroom.model.diffusion.prediction import training_target
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.images.pixels import from_pixels
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.objective import row_losses
from darkroom.model.training.run import StateStart, TrainingError, train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.training.trainer import Trainer, learning_rate, rate_jump
from tests.model.small import CLASS_NAMES, random_dataset, small_recipe, small_unet
from tests.model.training.memory_record import MemoryRecord

CPU = torch.device("cpu")


def mean_loss(trainer: Trainer) -> float:
    """Return L_simple over every time 1..T once, with fixed noise, in evaluation mode."""
    schedule, prediction = make_schedule(trainer.recipe.model.schedule), trainer.recipe.model.prediction
    t = torch.arange(1, schedule.steps + 1)
    rows = t.numpy() % len(trainer.dataset)
    x0, labels = (
        from_pixels(torch.from_numpy(trainer.dataset.images[rows])),
        torch.from_numpy(trainer.dataset.labels[rows]),
    )
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    trainer.network.eval()
    with torch.no_grad():
        output = trainer.network(add_noise(schedule, x0, t, eps), t, labels)
    trainer.network.train()
    target = training_target(schedule, prediction, x0, eps, t)
    return float(row_losses(np.ones(schedule.steps + 1), output, target, t).mean())


def test_eight_images_are_memorised() -> None:
    batch, iterations = 64, 500
    recipe = small_recipe(
        model__schedule={"name": "cosine", "steps": 1000},
        model__unet=small_unet(norm_groups=8).model_dump(),
        objective__label_drop=0.0,
        optimizer={"learning_rate": 1.5e-2, "warmup_images": 50 * batch, "decay": "cosine"},
        training__batch_size=batch,
        training__total_images=batch * iterations,
        training__horizontal_flip=False,
    )
    trainer = Trainer(recipe, random_dataset(8), CPU)
    first = mean_loss(trainer)
    assert first == pytest.approx(1.0, abs=0.02)  # a new network predicts zero, and eps has variance 1
    while trainer.images_seen < recipe.training.total_images:
        trainer.step()
    assert mean_loss(trainer) < 0.02 * first


@pytest.mark.parametrize(("flip", "classes"), [(False, set()), (("circle", "cross"), {0, 2}), (True, {0, 1, 2})])
def test_half_of_the_images_of_the_named_classes_are_mirrored(
    monkeypatch: pytest.MonkeyPatch, flip: bool | tuple[str, ...], classes: set[int]
) -> None:
    batches: list[torch.Tensor] = []
    monkeypatch.setattr(
        darkroom.model.training.trainer, "from_pixels", lambda pixels: batches.append(pixels) or from_pixels(pixels)
    )
    labels = np.arange(300) % 3
    images = np.full((300, 1, 8, 8), labels[:, None, None, None], dtype=np.uint8)
    images[..., 0] = 200  # the left column; the rest says the class
    trainer = Trainer(
        small_recipe(training__horizontal_flip=flip, training__batch_size=300),
        ImageDataset(images, labels, CLASS_NAMES, "sha256:bars"),
        CPU,
    )
    trainer.step()
    (pixels,) = batches
    mirrored, of_class = pixels[:, 0, 0, -1] == 200, pixels[:, 0, 0, 3]
    assert set(of_class[mirrored].tolist()) == classes
    for label in classes:
        assert 0.3 < mirrored[of_class == label].double().mean() < 0.7


def test_warm_up_then_constant() -> None:
    config = OptimizerConfig(learning_rate=1e-3, warmup_images=100)
    rates = [learning_rate(config, seen, 1000) for seen in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[49] == pytest.approx(5e-4)
    assert rates[99] == pytest.approx(1e-3)
    assert np.diff(rates[:100]) == pytest.approx(1e-5)
    assert set(rates[100:]) == {1e-3}


def test_cosine_decay_ends_at_zero() -> None:
    config = OptimizerConfig(learning_rate=1e-3, warmup_images=100, decay="cosine")
    rates = np.array([learning_rate(config, seen, 1100) for seen in range(100, 1101)])
    assert rates[0] == pytest.approx(1e-3)
    assert rates[500] == pytest.approx(5e-4)
    assert rates[250] == pytest.approx(1e-3 * (0.5 + 0.5 * math.cos(math.pi / 4)))
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(rates) < 0).all()


def test_no_warm_up_starts_at_the_full_rate() -> None:
    assert learning_rate(OptimizerConfig(learning_rate=1e-3), 0, 10) == 1e-3


def test_the_optimizer_uses_the_scheduled_rate() -> None:
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    for _ in range(4):
        expected = learning_rate(trainer.recipe.optimizer, trainer.images_seen, 96)
        trainer.step()
        assert [group["lr"] for group in trainer.optimizer.param_groups] == [expected]


@pytest.mark.parametrize("good_checkpoints", [0, 2])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good_checkpoints: int
) -> None:
    """Every second iteration writes a checkpoint; the loss stops being finite right after the last good one."""
    recipe, dataset = small_recipe(), random_dataset()
    reference = Trainer(recipe, dataset, CPU)
    for _ in range(2 * good_checkpoints):
        reference.step()

    calls = 0

    def breaks(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        losses = row_losses(*arguments)
        return losses * math.nan if calls > 2 * good_checkpoints else losses

    monkeypatch.setattr(darkroom.model.training.trainer, "row_losses", breaks)
    with pytest.raises(TrainingError, match="the loss is nan") as raised:
        train(recipe, dataset, FolderRecord(tmp_path, "small"), device=CPU)
    checkpoints = sorted((tmp_path / "checkpoints").glob("*")) if good_checkpoints else []
    assert len(checkpoints) == good_checkpoints
    if not good_checkpoints:
        assert "no checkpoint was written yet" in str(raised.value)
        return
    assert str(checkpoints[-1]) in str(raised.value)
    checkpoint = load_checkpoint(checkpoints[-1])
    assert checkpoint.header.images_seen == reference.images_seen
    assert checkpoint.weights.keys() == reference.ema.weights.keys()
    for name, value in checkpoint.weights.items():
        assert torch.equal(value, reference.ema.weights[name]), name

    with pytest.raises(TrainingError, match="the loss is nan") as again:  # in the first step after resuming
        train(recipe, dataset, FolderRecord(tmp_path, "small"), device=CPU)
    assert str(checkpoints[-1]) in str(again.value)

    monkeypatch.undo()  # the cause is removed: the same folder runs to its end
    assert train(recipe, dataset, FolderRecord(tmp_path, "small"), device=CPU).finished


def read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainers on the CPU read losses late and hold their images, as on a GPU."""
    begin = Trainer.__post_init__

    def late(trainer: Trainer) -> None:
        begin(trainer)
        trainer.reads_late = True
        trainer._held = torch.from_numpy(trainer.dataset.images)

    monkeypatch.setattr(Trainer, "__post_init__", late)


def test_a_run_that_reads_its_losses_late_has_the_same_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = Trainer.read

    def counted(trainer: Trainer) -> list[tuple[float, float]]:
        found = read(trainer)
        reads.append(len(found))
        return found

    recipe = small_recipe(training__total_images=200, training__checkpoint_every_images=80)
    with monkeypatch.context() as patch:
        train(recipe, random_dataset(), FolderRecord(tmp_path / "at once", "small"), device=CPU)
        read_late(patch)
        patch.setattr(Trainer, "read", counted)
        train(recipe, random_dataset(), FolderRecord(tmp_path / "late", "small"), device=CPU)
    assert reads == [10, 10, 5, 0]  # at the checkpoints after 10 and 20 steps, at the end, and after it
    columns = [
        [line.split(",")[:4] for line in (tmp_path / run / "losses.csv").read_text().splitlines()]
        for run in ("at once", "late")
    ]
    assert columns[0] == columns[1]
    assert len(columns[0]) == 3
    for path in (tmp_path / "at once" / "checkpoints").iterdir():
        ours, theirs = (load_checkpoint(tmp_path / run / "checkpoints" / path.name) for run in ("at once", "late"))
        assert all(torch.equal(value, theirs.weights[name]) for name, value in ours.weights.items())


def test_a_loss_that_is_not_finite_and_read_late_ends_the_run_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_late(monkeypatch)
    recipe = small_recipe(training__checkpoint_every_images=48)
    calls = itertools.count()
    monkeypatch.setattr(
        darkroom.model.training.trainer,
        "row_losses",
        lambda *arguments: row_losses(*arguments) * (math.inf if next(calls) >= 8 else 1.0),
    )
    with pytest.raises(TrainingError, match="the loss is inf"):
        train(recipe, random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["0000000048.safetensors"]
    assert load_checkpoint(tmp_path / "checkpoints" / "0000000048.safetensors").header.images_seen == 48


def test_a_step_with_a_loss_that_is_not_finite_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, twin = (Trainer(small_recipe(), random_dataset(), CPU) for _ in range(2))
    trainer.step()
    twin.step()
    with monkeypatch.context() as patch:
        patch.setattr(
            darkroom.model.training.trainer, "row_losses", lambda *arguments: row_losses(*arguments) * math.inf
        )
        assert not math.isfinite(trainer.step()[0])
    assert trainer.step() == twin.step()
    assert all(map(torch.equal, trainer.network.parameters(), twin.network.parameters()))
    assert all(torch.equal(value, twin.ema.weights[name]) for name, value in trainer.ema.weights.items())


def test_a_run_writes_every_documented_file(tmp_path: Path) -> None:
    recipe = small_recipe(
        training__total_images=400, training__checkpoint_every_images=150, training__sample_every_images=200
    )
    reports: list[CurvePoint] = []
    record = FolderRecord(tmp_path, "small")
    result = train(recipe, random_dataset(), record, device=CPU, on_progress=reports.append)
    assert (result.images_seen, result.finished) == (400, True)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["0000000152.safetensors", "0000000304.safetensors", "0000000400.safetensors"]

    checkpoint = load_checkpoint(tmp_path / "checkpoints" / names[-1])
    assert checkpoint.header.recipe == recipe
    assert checkpoint.header.class_names == CLASS_NAMES
    checkpoint.denoiser()

    assert [report.images_seen for report in reports] == [160, 320, 400]
    assert all(report.images_per_second > 0 for report in reports)
    assert all(2**24 < report.memory_bytes < 2**40 for report in reports)
    with (tmp_path / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images_seen"]) for row in rows] == [160, 320, 400]
    assert [float(row["loss"]) for row in rows] == pytest.approx([report.loss for report in reports], rel=1e-4)

    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["0000000200.png", "0000000400.png"]
    for picture in (tmp_path / "samples" / "0000000400.png", tmp_path / "loss.png"):
        assert Image.open(picture).format == "PNG"


def test_a_finished_run_started_again_is_left_as_it_is(tmp_path: Path) -> None:
    first = train(small_recipe(), random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert train(small_recipe(), random_dataset(), FolderRecord(tmp_path, "small"), device=CPU) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == kept


def test_the_loss_log_forgets_what_was_not_saved(tmp_path: Path) -> None:
    recipe = small_recipe(training__total_images=800, training__checkpoint_every_images=320)
    answers = iter([False] * 50)

    def killed() -> bool:
        if next(answers, None) is None:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):  # after 400 images; the state is that of image 320
        train(recipe, random_dataset(), FolderRecord(tmp_path, "small"), device=CPU, should_stop=killed)
    train(recipe, random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)
    with (tmp_path / "losses.csv").open(newline="") as file:
        seen = [int(row["images_seen"]) for row in csv.DictReader(file)]
    assert seen == [160, 320, 480, 640, 800]


def test_a_torn_line_of_the_loss_log_is_dropped(tmp_path: Path) -> None:
    recipe = small_recipe(training__total_images=480)
    answers = iter([False] * 40)
    train(
        recipe, random_dataset(), FolderRecord(tmp_path, "small"), device=CPU, should_stop=lambda: next(answers, True)
    )
    path = tmp_path / "losses.csv"
    with path.open("a") as file:
        file.write("32")  # the disk was full
    train(recipe, random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)
    with path.open(newline="") as file:
        assert [int(row["images_seen"]) for row in csv.DictReader(file)] == [160, 320, 480]


def test_images_of_another_shape_are_refused_with_advice() -> None:
    with pytest.raises(TrainingError, match=r"image_channels: is 1, .* 3 channel"):
        Trainer(small_recipe(), random_dataset(channels=3), CPU)


DECAYED = {"optimizer__learning_rate": 1e-3, "optimizer__decay": "cosine", "training__total_images": 96}


@pytest.mark.parametrize(
    ("seen", "changes", "leaps"),
    [
        (96, {"training__total_images": 192}, True),  # from nearly nothing to half
        (88, {"training__total_images": 192}, True),
        (88, {}, False),
        (48, {"training__total_images": 112}, False),
        (8, {}, False),  # within the warm-up, where the rate grows from batch to batch
        (96, {"training__total_images": 192, "optimizer__learning_rate": 1e-6}, False),
        (48, {"optimizer__learning_rate": 1.0}, True),
    ],
    ids=str,
)
def test_continuing_a_run_warns_of_a_leap_of_the_learning_rate(
    seen: int, changes: dict[str, Any], leaps: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = small_recipe(**DECAYED), small_recipe(**(DECAYED | changes))
    told = rate_jump(before, after, seen)
    assert (told is not None) == leaps
    trainer = Trainer(before, random_dataset(), CPU)
    while trainer.images_seen < seen:
        trainer.step()
    answers = iter([True])
    with caplog.at_level(logging.WARNING, "darkroom.model.training.run"):
        start = StateStart("the parent", trainer.state())
        record = MemoryRecord()
        train(after, random_dataset(), record, device=CPU, start=start, should_stop=lambda: next(answers, True))
    assert [line.getMessage() for line in caplog.records] == ([told] if told else [])
    if told:
        assert f"to {learning_rate(after.optimizer, seen, after.training.total_images):.2g} after {seen}" in told
