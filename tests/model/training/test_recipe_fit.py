"""Checks before training: a recipe is refused by its faulty field, or it runs to its end."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from darkroom.model.config import Recipe, RecipeError, SpacingName
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.metric_names import DECIDING
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.misfit import Misfit
from darkroom.model.training.recipe_fit import ImageFacts, recipe_misfits
from darkroom.model.training.run import TrainingError, train
from darkroom.model.training.trainer import Trainer
from tests.model.small import CLASS_NAMES, random_dataset, small_recipe, small_unet
from tests.model.training.memory_record import MemoryRecord

FACTS = ImageFacts(1, 8, (7, 7, 6), CLASS_NAMES)


def found(images: ImageFacts = FACTS, **changes: Any) -> list[Misfit]:
    return list(recipe_misfits(small_recipe(**changes), images))


def evaluation(**changes: Any) -> dict[str, Any]:
    return {"every_images": 40, "images": 8, **changes}


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        (
            {"model__schedule__steps": 1000, "sampling": {"steps": 1000, "spacing": "edm"}},
            "sampling.steps",
            "1 and 992",
        ),
        ({"model__schedule__steps": 50, "sampling": {"steps": 50, "spacing": "edm"}}, "sampling.steps", "1 and 49"),
        ({"model__schedule__steps": 50, "sampling__steps": 51}, "sampling.steps", "1 and 50"),
        ({"sampling__spacing": "edm", "evaluation": evaluation(steps=100)}, "evaluation.steps", "1 and 99"),
        (
            {"sampling__spacing": "log_snr", "evaluation": evaluation(frontier_steps=[5, 100])},
            "evaluation.frontier_steps",
            "not 100",
        ),
        (
            {"model__schedule__steps": 20, "evaluation": evaluation(metrics=["bits_per_dimension"])},
            "evaluation.bound_times",
            "2 and the model's 20, not 50",
        ),
        (
            {"evaluation": evaluation(metrics=["fid", "precision_recall"], images=3)},
            "evaluation.images",
            "precision_recall needs 4",
        ),
        ({"evaluation": evaluation(metrics=["fid", "perceptual"], images=3)}, "evaluation.images", "set it to 4"),
        ({"objective__times": {"name": "normal", "mean": 20.0, "scale": 0.1}}, "objective.times.mean", "near 20"),
        ({"model__image_channels": 3}, "model.image_channels", "set it to 1"),
        ({"training__horizontal_flip": ["circle", "disc"]}, "training.horizontal_flip", "does not have: 'disc'"),
        # takes 4 TB: the check builds it without weights
        (
            {"model__unet": {"width": 2048, "multipliers": (64,), "attention_resolutions": (8,)}},
            "model.unet.width",
            "may have 1,000,000,000",
        ),
    ],
)
def test_a_recipe_that_cannot_run_is_refused_by_field(changes: dict[str, Any], field: str, says: str) -> None:
    (misfit,) = found(**changes)
    assert misfit.fields[0] == field
    assert says in misfit.text
    with pytest.raises(TrainingError, match=field):
        train(small_recipe(**changes), random_dataset(), MemoryRecord(), device=torch.device("cpu"))


def test_larger_pictures_are_scaled_down_and_smaller_ones_refused() -> None:
    (misfit,) = found(ImageFacts(1, 4, (7, 7, 6), CLASS_NAMES))
    assert misfit.fields == ("model.image_size",)
    assert misfit.text.endswith("set it to 4 or less")
    large = random_dataset(side=16)
    assert found(ImageFacts(1, 16, large.class_counts, CLASS_NAMES)) == []
    trainer = Trainer(small_recipe(), large, torch.device("cpu"))
    assert trainer.dataset.images.shape[1:] == (1, 8, 8)
    assert trainer.dataset.digest not in (large.digest, random_dataset().digest)
    assert np.isfinite(trainer.step()).all()


def test_a_data_set_may_hold_too_few_images_for_a_metric() -> None:
    for metric, least in (("fid", 2), ("kid", 2), ("precision_recall", 4)):
        asked = evaluation(metrics=[*dict.fromkeys(["fid", metric])])
        (misfit, *_) = found(ImageFacts(1, 8, (1, 0, 0), CLASS_NAMES), evaluation=asked)[::-1]
        assert misfit.text == f"{metric} needs {least} images of the data set or more, and there are 1"
        assert found(ImageFacts(1, 8, (least - 1, 1, 0), CLASS_NAMES), evaluation=asked) == []
    assert found(ImageFacts(1, 8, (1, 0, 0), CLASS_NAMES), evaluation=evaluation(metrics=["bits_per_dimension"])) == []


def test_the_recipe_of_the_first_fault_runs_with_one_step_less() -> None:
    for steps, schedule_steps in ((992, 1000), (49, 50)):
        changes = {"model__schedule__steps": schedule_steps, "sampling": {"steps": steps, "spacing": "edm"}}
        assert found(**changes) == []


METRICS = ("fid", "kid", "precision_recall", "confidence", "perceptual", "bits_per_dimension")
SMALL = st.fixed_dictionaries(
    {
        "model__schedule": st.fixed_dictionaries(
            {"name": st.sampled_from(["cosine", "linear"]), "steps": st.integers(2, 12)}
        ),
        "sampling": st.fixed_dictionaries(
            {
                "steps": st.integers(1, 6),
                "spacing": st.sampled_from(get_args(SpacingName)),
                "sampler": st.sampled_from(list(SAMPLERS)),
                "guidance": st.sampled_from([0.0, 1.0, 2.0]),
            }
        ),
        "evaluation": st.fixed_dictionaries(
            {
                "every_images": st.just(2),
                "bound_times": st.none() | st.integers(2, 6),
                "images": st.integers(2, 6),
                "metrics": st.tuples(st.sampled_from(DECIDING), st.sampled_from(METRICS)).map(lambda two: [*{*two}]),
            },
            optional={
                "steps": st.integers(1, 12),
                "frontier_steps": st.lists(st.integers(1, 12), max_size=1),
                "frontier_samplers": st.just(["ddim"]),
            },
        ),
    }
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(SMALL, st.integers(1, 6))
def test_a_recipe_that_passes_the_checks_runs_its_grid_and_its_evaluation(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], images: int
) -> None:
    recipe = _valid(changes)
    if recipe is None:
        return
    record, folder = MemoryRecord(), Path(tmp_path_factory.mktemp("references"))
    dataset, references = random_dataset(images), FolderReferences(folder)
    try:
        result = train(recipe, dataset, record, device=torch.device("cpu"), references=references)
    except TrainingError:
        event("refused")
        assert record.calls == []
        return
    event("trained")
    assert result.finished
    assert record.failures == []
    assert list(record.pictures) == list(record.evaluations) == [2]


def _valid(changes: dict[str, Any]) -> Recipe | None:
    tiny = small_unet(width=8, multipliers=(1,), attention_resolutions=(), norm_groups=2).model_dump()
    try:
        return small_recipe(model__unet=tiny, training__total_images=2, training__batch_size=2, **changes)
    except RecipeError:
        return None
