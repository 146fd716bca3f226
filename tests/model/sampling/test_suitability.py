"""Settings with which a model would draw noise are refused, and no others."""

from typing import Any

import pytest
import torch

from darkroom.model.checkpoint import decode_checkpoint
from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.images.pixels import to_pixels
from darkroom.model.metrics.generation import plan_drawing
from darkroom.model.sampling.draw import plan_row
from darkroom.model.sampling.scoring import score
from darkroom.model.sampling.suitability import drawing_faults
from darkroom.model.training.recipe_fit import ImageFacts, recipe_misfits
from darkroom.model.training.run import train
from darkroom.model.training.trainer import Trainer, TrainingError
from tests.model.small import CLASS_NAMES, random_dataset, small_model, small_recipe
from tests.model.training.memory_record import MemoryRecord

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("settings", "faulty"),
    [
        ({}, False),
        ({"guidance": 1.5}, True),
        ({"guidance": 0.0}, True),
        ({"guidance": 1.5, "guidance_interval": (0.5, 2.0)}, True),
        ({"guidance": 1.5, "guide": "snapshot"}, False),
        ({"guidance": 0.0, "guide": "snapshot"}, False),
    ],
    ids=str,
)
def test_guidance_away_from_no_class_needs_a_network_that_was_trained_without_one(
    settings: dict[str, Any], faulty: bool
) -> None:
    model, sampling = small_model(prediction="v"), SamplingConfig(**settings)
    assert not list(drawing_faults(model, sampling, null_class=True))
    assert [field for field, _ in drawing_faults(model, sampling, null_class=False)] == ["guidance"] * faulty


@pytest.mark.parametrize(
    ("model", "settings", "faulty"),
    [
        ({}, {}, True),
        ({}, {"threshold": "static"}, False),
        ({}, {"threshold": "dynamic"}, False),
        ({}, {"spacing": "log_snr"}, False),
        ({}, {"spacing": "edm_coarse"}, False),
        ({"prediction": "v"}, {}, False),
        ({"prediction": "x0"}, {}, False),
        ({"schedule": ScheduleConfig(name="linear")}, {}, False),  # begins at 157
    ],
    ids=str,
)
def test_an_eps_prediction_is_not_drawn_without_threshold_from_the_highest_noise(
    model: dict[str, Any], settings: dict[str, Any], faulty: bool
) -> None:
    """Digits drawn with such settings had pixels of 900 instead of 1."""
    config = small_model(**model)
    sampling = SamplingConfig(**({"threshold": "none"} | settings))
    assert [field for field, _ in drawing_faults(config, sampling, null_class=True)] == ["threshold"] * faulty


def without_null_class(**changes: Any) -> dict[str, Any]:
    return {"objective__label_drop": 0.0} | changes


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"sampling__guidance": 2.0}, []),
        (without_null_class(), []),
        (without_null_class(sampling__guidance=2.0), ["sampling.guidance"]),
        (without_null_class(evaluation={"every_images": 16}), []),
        (without_null_class(evaluation={"every_images": 16, "guidance": 2.0}), ["evaluation.guidance"]),
        (
            without_null_class(sampling__guidance=2.0, sampling__guide="snapshot", training__guide_snapshot_images=16),
            [],
        ),
        (
            without_null_class(
                sampling__guide="snapshot",
                training__guide_snapshot_images=16,
                evaluation={"every_images": 16, "guidance": 2.0},
            ),
            [],
        ),
        (
            without_null_class(  # the first evaluation comes before the snapshot
                sampling__guide="snapshot",
                training__guide_snapshot_images=32,
                evaluation={"every_images": 16, "guidance": 2.0},
            ),
            ["evaluation.guidance"],
        ),
        ({"model__schedule__steps": 1000, "sampling__threshold": "none"}, ["sampling.threshold"]),
    ],
    ids=str,
)
def test_a_recipe_that_could_not_draw_its_own_images_is_refused_by_field(
    changes: dict[str, Any], fields: list[str]
) -> None:
    recipe = small_recipe(**changes)
    assert [
        misfit.fields[0] for misfit in recipe_misfits(recipe, ImageFacts(1, 8, (20, 20, 20), CLASS_NAMES))
    ] == fields
    if fields:
        with pytest.raises(TrainingError, match=fields[0]):
            Trainer(recipe, random_dataset(), CPU)


def test_a_weights_file_knows_whether_it_learned_to_draw_without_a_class() -> None:
    weights = {}
    for drop in (0.0, 0.3):
        trainer = Trainer(small_recipe(objective__label_drop=drop), random_dataset(), CPU)
        trainer.step()
        weights[drop] = decode_checkpoint(trainer.checkpoint(), source="here")
    before = weights[0.0].header.model_copy(update={"recipe": None})
    assert [weights[0.0].header.null_class, weights[0.3].header.null_class, before.null_class] == [False, True, True]

    dataset, guided = random_dataset(), SamplingConfig(steps=2, guidance=2.0)
    for drop, checkpoint in weights.items():
        denoiser = checkpoint.denoiser().interruptible(lambda: False)
        plan_row(denoiser, SamplingConfig(steps=2), label=0, seed=0)
        drawing = plan_drawing(dataset, 3, small_recipe(evaluation={"every_images": 16}).evaluation, guided)
        pixels = torch.from_numpy(to_pixels(torch.zeros(1, 1, 8, 8))).permute(0, 3, 1, 2)
        asked = [
            lambda denoiser=denoiser: plan_row(denoiser, guided, label=0, seed=0),
            lambda denoiser=denoiser: plan_row(denoiser, SamplingConfig(steps=2), label=None, seed=0),
            lambda denoiser=denoiser, drawing=drawing: drawing.check(denoiser),
            lambda denoiser=denoiser, pixels=pixels: score(denoiser, pixels, [0]),
        ]
        for ask in asked:
            if drop:
                ask()
            else:
                with pytest.raises(ValueError, match="label_drop 0"):
                    ask()


def test_until_there_is_a_snapshot_a_network_without_a_null_class_is_not_guided() -> None:
    recipe = small_recipe(
        objective__label_drop=0.0,
        sampling__guidance=2.0,
        sampling__guide="snapshot",
        training__guide_snapshot_images=32,
        training__sample_every_images=16,
    )
    record = MemoryRecord()
    assert train(recipe, random_dataset(), record, device=CPU).finished
    kept = {seen: decode_checkpoint(weights, source="here") for seen, (weights, _) in record.checkpoints.items()}
    told = {seen: (one.header.sampling.guide, one.header.sampling.guidance) for seen, one in kept.items()}
    assert told == {16: ("unconditional", 1.0)} | dict.fromkeys((32, 48, 64, 80, 96), ("snapshot", 2.0))
