"""Laws of looks at a run: they change nothing in it, compare losses with exact ones, and end only a hopeless run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import darkroom.model.training.inspection as inspection_module
from darkroom.model.figure import Figure
from darkroom.model.training.finding import Finding, FindingKind, Severity
from darkroom.model.training.forecast import METRIC, Anchors, Measured, corrected_forecast, expected_at
from darkroom.model.training.inspection import HOPELESS_FROM, HOPELESS_IMAGES, Inspection, hopeless
from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.training.trainer import Trainer, TrainingHopeless
from tests.model.small import random_dataset, small_recipe
from tests.model.training.memory_record import MemoryRecord

CPU = torch.device("cpu")
EXPLODED = Finding("exploded", "failure", None, "The loss has exploded")


def pictures(trainer: Trainer) -> tuple[np.ndarray, np.ndarray]:
    return trainer.dataset.images[:6], trainer.dataset.labels[:6]


def test_a_look_changes_nothing_in_the_run() -> None:
    looked_at, other = (Trainer(small_recipe(), random_dataset(), CPU) for _ in range(2))
    inspection = Inspection(looked_at)
    for _ in range(3):
        assert looked_at.step() == other.step()
        inspection.look(*pictures(looked_at))
        assert 0.0 < inspection.noise_left() < 2.0
    for ours, theirs in (
        (looked_at.network.state_dict(), other.network.state_dict()),
        (looked_at.ema.weights, other.ema.weights),
    ):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert looked_at.network.training


def test_losses_are_those_of_the_weights_and_of_their_average() -> None:
    """An average that is a copy has the same loss; dropout is off; an output of zeros costs the target's square."""
    trainer = Trainer(small_recipe(model__prediction="eps"), random_dataset(), CPU)
    inspection = Inspection(trainer)
    losses = inspection.losses()
    assert losses["weights"].tolist() == losses["average"].tolist() == inspection.losses()["weights"].tolist()
    assert losses["zeros"].mean() == pytest.approx(1.0, abs=0.1)  # E[eps^2]
    trainer.ema.weights = {name: torch.zeros_like(value) for name, value in trainer.ema.weights.items()}
    assert inspection.losses()["average"].tolist() == losses["zeros"].tolist()
    assert inspection.noise_left() == pytest.approx(1.0, abs=0.1)  # the estimate x / alpha leaves all of it


def test_the_guess_at_single_pixels_cannot_be_beaten_where_pixels_are_independent() -> None:
    """On pictures that are noise around no mean, it is as good as the exact posterior mean, and better than zeros."""
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    losses = Inspection(trainer).losses()
    assert losses["linear"].mean() < 0.5 * losses["zeros"].mean()
    for _ in range(12):
        trainer.step()
    assert Inspection(trainer).losses()["weights"].mean() > losses["linear"].mean()


@pytest.mark.parametrize(
    ("kinds", "done", "ends"),
    [
        (("exploded",), 0.0, "exploded"),
        (("noise",), 1.0, None),
        (("not_learning",), 1.0, None),
        (("not_learning", "noise"), HOPELESS_FROM, "noise"),
        (("not_learning", "noise"), HOPELESS_FROM - 0.01, None),
    ],
)
def test_only_an_exploded_loss_or_noise_without_learning_ends_a_run(
    kinds: tuple[FindingKind, ...], done: float, ends: str | None
) -> None:
    cause = hopeless([Finding(kind, "failure", None, "") for kind in kinds], done, HOPELESS_IMAGES)
    assert (cause and cause.kind) == ends


def test_noise_of_one_class_ends_nothing() -> None:
    told: list[tuple[FindingKind, Severity]] = [("not_learning", "failure"), ("noise", "warning")]
    assert hopeless([Finding(kind, severity, None, "") for kind, severity in told], 1.0, HOPELESS_IMAGES) is None


def test_an_evaluation_gives_a_forecast_until_the_run_ends_and_a_warning_when_it_is_far_behind() -> None:
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    inspection = Inspection(trainer)
    assert inspection.forecast is None
    trainer.place = trainer.recipe.training.total_images // 2
    share = inspection.done
    usual = expected_at(trainer.recipe, share)
    anchors = Anchors(50.0, 3000.0)
    once = iter([anchors])
    inspection.see([Figure("kid-efficientnet-lite0", 1.0, {}), Figure(METRIC, usual.distance, {})], lambda: next(once))
    measured = Measured(share, usual.distance, inspection.noise_left())
    assert inspection.forecast == corrected_forecast(measured, anchors)
    assert "behind" not in {finding.kind for finding in inspection.look(*pictures(trainer))}
    inspection.see([Figure(METRIC, 1.01 * usual.high, {})], lambda: next(once))
    assert "behind" in {finding.kind for finding in inspection.look(*pictures(trainer))}
    trainer.place = trainer.recipe.training.total_images
    assert inspection.forecast is None


def test_a_run_that_ends_by_the_clock_is_slow_when_its_place_is_far_ahead_of_its_images() -> None:
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    trainer.step()
    kinds = {finding.kind for finding in Inspection(trainer).look(*pictures(trainer))}
    trainer.place = 3 * trainer.images_seen
    assert {finding.kind for finding in Inspection(trainer).look(*pictures(trainer))} - kinds >= {"slow"}


@pytest.fixture
def exploded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_module, "judge_losses", lambda **losses: [EXPLODED])


@pytest.mark.usefixtures("exploded")
def test_a_hopeless_run_ends_with_its_verdict_recorded_and_tell_only_tells_and_off_does_not_look() -> None:
    looks = {"training__sample_every_images": 40}
    record = MemoryRecord()
    with pytest.raises(
        TrainingHopeless, match=r"stopped after 40 images.*The loss has exploded.*early_verdict to tell"
    ):
        train(small_recipe(training__early_verdict="stop", **looks), random_dataset(), record, device=CPU)
    assert {seen: found[0] for seen, found in record.verdicts.items()} == {40: EXPLODED}

    record = MemoryRecord()
    assert train(small_recipe(training__early_verdict="tell", **looks), random_dataset(), record, device=CPU).finished
    assert list(record.verdicts) == [40, 80, 96]

    record = MemoryRecord()
    assert train(small_recipe(**looks), random_dataset(), record, device=CPU).finished
    assert record.verdicts == {}
    assert list(record.pictures) == [40, 80, 96]


@pytest.mark.usefixtures("exploded")
def test_a_folder_keeps_the_newest_verdict_and_the_log_tells_each_finding_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = small_recipe(training__early_verdict="tell", training__sample_every_images=40)
    record = FolderRecord(tmp_path, "small")
    train(recipe, random_dataset(), record, device=CPU)
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["images_seen"] == 96
    assert verdict["findings"][0] == EXPLODED.plain()
    assert record.findings is not None
    assert record.findings[0] == EXPLODED
    assert caplog.text.count(EXPLODED.advice) == 1


def test_a_look_that_fails_is_recorded_and_training_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**losses: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(inspection_module, "judge_losses", fail)
    record = MemoryRecord()
    assert train(small_recipe(training__early_verdict="stop"), random_dataset(), record, device=CPU).finished
    assert record.failures == [("verdict", 96, "RuntimeError: no")]


def test_noise_does_not_end_a_run_that_is_so_short_that_its_end_saves_nothing() -> None:
    noise = [Finding(kind, "failure", None, "") for kind in ("not_learning", "noise")]
    assert hopeless(noise, 1.0, HOPELESS_IMAGES - 1) is None
