"""Whether a recipe can be carried out to its end: found out on paper, before a job is queued and before a run begins.

A check calls the function that the run will call later, so that the two never disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darkroom.model.config import ModelConfig, Recipe
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.misfit import Misfit
from darkroom.model.samplers.spacing import spaced_times
from darkroom.model.sampling.suitability import NO_NULL_CLASS, drawing_faults, needs_null_class
from darkroom.model.training.time_sampling import time_probabilities

_TIMES = ("model.schedule.steps", "model.schedule.name")

WEIGHTS_FIX: Sequence[str] = ("model",)
"""What a run must leave as it is that begins with a model's weights: it says what the weights mean."""

STATE_FIXES: Sequence[str] = (*WEIGHTS_FIX, "optimizer.name")
"""The same for a run that goes on from a training state, which also holds what the optimizer remembers."""

FREE: Sequence[str] = ("model.unet.dropout",)
"""What either may change all the same: it belongs to training, and not to the weights."""


@dataclass(frozen=True)
class ImageFacts:
    """What a recipe must suit. side: of the square images in pixels; class_counts: how many images each class has."""

    channels: int
    side: int
    class_counts: Sequence[int]


def recipe_misfits(recipe: Recipe, images: ImageFacts) -> Iterator[Misfit]:
    """Yield the faults of a recipe that is valid by itself: of its network, times, sample grids and evaluations.

    A model that it trains answers requests that name no settings: those are the recipe's own, which the grids need too.
    """
    yield from _network(recipe, images)
    schedule = make_schedule(recipe.model.schedule)
    try:
        time_probabilities(schedule, recipe.objective.times)
    except ValueError as error:
        yield Misfit(("objective.times.mean", "objective.times.scale", "objective.times.name", *_TIMES), str(error))
    try:
        spaced_times(schedule, recipe.sampling.spacing, recipe.sampling.steps)
    except ValueError as error:
        yield Misfit(("sampling.steps", "sampling.spacing", *_TIMES), str(error))
    yield from _noise(recipe)
    if recipe.evaluation is not None:
        from darkroom.model.metrics.requirements import evaluation_misfits, frontier_misfits

        asked = (recipe.evaluation, recipe.sampling, recipe.model.schedule)
        yield from evaluation_misfits(*asked, images.class_counts)
        yield from frontier_misfits(*asked)


def weights_misfits(recipe: Recipe, theirs: ModelConfig) -> Iterator[Misfit]:
    """What a run must not change that begins with the weights of a model of that configuration."""
    yield from _changed(recipe, {"model": theirs.model_dump()}, WEIGHTS_FIX)


def state_misfits(recipe: Recipe, theirs: Recipe, images_seen: int, snapshot: bool) -> Iterator[Misfit]:
    """What a run must not change that goes on from a training state of that recipe.

    images_seen: of the state. snapshot: whether it holds one to guide by.
    """
    yield from _changed(recipe, theirs.model_dump(), STATE_FIXES)
    at = recipe.training.guide_snapshot_images
    if at is not None and images_seen >= at and not snapshot:
        text = f"is {at}, but the state has seen {images_seen} images and holds no snapshot: set it to more than these"
        yield Misfit(("training.guide_snapshot_images",), text)


def _network(recipe: Recipe, images: ImageFacts) -> Iterator[Misfit]:
    model = recipe.model
    for name, ours, theirs in (
        ("image_channels", model.image_channels, images.channels),
        ("image_size", model.image_size, images.side),
    ):
        if ours != theirs:
            shape = f"{images.side}x{images.side} pixels and {images.channels} channel(s)"
            text = f"is {ours}, but the data set has images of {shape}: set it to {theirs}"
            yield Misfit((f"model.{name}",), text)


def _noise(recipe: Recipe) -> Iterator[Misfit]:
    """Settings with which the recipe's model would draw noise."""
    sampling, evaluation, null_class = recipe.sampling, recipe.evaluation, recipe.objective.label_drop > 0.0
    for field, text in drawing_faults(recipe.model, sampling, null_class=null_class):
        yield Misfit((f"sampling.{field}",), text)
    if evaluation is None or evaluation.guidance is None or null_class:
        return
    kept_at = recipe.training.guide_snapshot_images
    if kept_at is None or evaluation.every_images < kept_at:  # no class guides until there is a snapshot
        sampling = sampling.model_copy(update={"guide": "unconditional"})
    if needs_null_class(sampling.model_copy(update={"guidance": evaluation.guidance})):
        yield Misfit(("evaluation.guidance",), f"is {evaluation.guidance:g}, and {NO_NULL_CLASS}: set it to 1")


def _changed(recipe: Recipe, theirs: Mapping[str, Any], fixed: Sequence[str]) -> Iterator[Misfit]:
    ours = dict(_leaves(recipe.model_dump()))
    for name, value in _leaves(theirs):
        if any(f"{name}.".startswith(f"{one}.") for one in fixed) and name not in FREE and ours[name] != value:
            yield Misfit((name,), f"is {ours[name]}, but what the run begins from has {value}")


def _leaves(section: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all fields."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}{key}.")
        else:
            yield f"{name}{key}", value
