"""Finds a recipe's faults before a job is queued and before a run begins, without training anything.

Checks call the same functions as the run, so that the two never disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darkroom.model.config import ModelConfig, Recipe
from darkroom.model.diffusion.network import MOST_PARAMETERS, parameters_of, unfilled
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.misfit import Misfit
from darkroom.model.samplers.spacing import spaced_times
from darkroom.model.sampling.suitability import NO_NULL_CLASS, drawing_faults, needs_null_class
from darkroom.model.training.time_sampling import time_probabilities

_TIMES = ("model.schedule.steps", "model.schedule.name")

WEIGHTS_FIX: Sequence[str] = ("model",)
"""Sections that a run must not change when it begins with a model's weights: they define what the weights mean."""

STATE_FIXES: Sequence[str] = (*WEIGHTS_FIX, "optimizer.name")
"""Sections that a run must not change when it continues a training state, which also has the optimizer's moments."""

FREE: Sequence[str] = ("model.unet.dropout",)
"""Exceptions, which both may change: they affect training, not what the weights mean."""

NAMED = 5
"""Most unknown classes that a message names."""


@dataclass(frozen=True)
class ImageFacts:
    """The facts of a data set that a recipe must fit. side: of the square images, in pixels."""

    channels: int
    side: int
    class_counts: Sequence[int]
    class_names: Sequence[str]


def recipe_misfits(recipe: Recipe, images: ImageFacts) -> Iterator[Misfit]:
    """Yield the faults of a valid recipe for this data set: in its network, times, sampling settings and evaluations.

    The sampling settings must work for the sample grids, and for requests to the trained model that name no settings.
    """
    yield from _network(recipe, images)
    yield from _flips(recipe, images)
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
    """Yield the recipe's differences from `theirs`, a model's configuration, that its weights do not allow."""
    yield from _changed(recipe, {"model": theirs.model_dump()}, WEIGHTS_FIX)


def state_misfits(recipe: Recipe, theirs: Recipe, images_seen: int, snapshot: bool) -> Iterator[Misfit]:
    """Yield the recipe's differences from `theirs`, the recipe of a training state, that the state does not allow.

    images_seen: of the state. snapshot: True when the state holds a snapshot.
    """
    yield from _changed(recipe, theirs.model_dump(), STATE_FIXES)
    at = recipe.training.guide_snapshot_images
    if at is not None and images_seen >= at and not snapshot:
        text = f"is {at}, but the state has seen {images_seen} images and holds no snapshot: set it to more than that"
        yield Misfit(("training.guide_snapshot_images",), text)


def _network(recipe: Recipe, images: ImageFacts) -> Iterator[Misfit]:
    model = recipe.model
    shape = f"but the data set has images of {images.side}x{images.side} pixels and {images.channels} channel(s)"
    if model.image_channels != images.channels:
        yield Misfit(("model.image_channels",), f"is {model.image_channels}, {shape}: set it to {images.channels}")
    if model.image_size > images.side:  # larger images are scaled down
        yield Misfit(("model.image_size",), f"is {model.image_size}, {shape}: set it to {images.side} or less")
    parameters = parameters_of(unfilled(model, len(images.class_counts), model.schedule.steps))
    if parameters > MOST_PARAMETERS:
        text = f"the network would have {parameters:,} parameters, and may have {MOST_PARAMETERS:,}: make it smaller"
        yield Misfit(("model.unet.width", "model.unet.multipliers", "model.unet.blocks_per_level"), text)


def _flips(recipe: Recipe, images: ImageFacts) -> Iterator[Misfit]:
    chosen = recipe.training.horizontal_flip
    unknown = [] if isinstance(chosen, bool) else sorted(set(chosen) - set(images.class_names))
    if unknown:
        names = ", ".join(map(repr, unknown[:NAMED]))
        text = f"names classes that the data set does not have: {names}. Name its classes, or say true or false for all"
        yield Misfit(("training.horizontal_flip",), text)


def _noise(recipe: Recipe) -> Iterator[Misfit]:
    """Yield sampling settings with which the recipe's model would draw noise."""
    sampling, evaluation, null_class = recipe.sampling, recipe.evaluation, recipe.objective.label_drop > 0.0
    for field, text in drawing_faults(recipe.model, sampling, null_class=null_class):
        yield Misfit((f"sampling.{field}",), text)
    if evaluation is None or evaluation.guidance is None or null_class:
        return
    kept_at = recipe.training.guide_snapshot_images
    if (
        kept_at is None or evaluation.every_images < kept_at
    ):  # until there is a snapshot, `Trainer.sampling` guides by no class
        sampling = sampling.model_copy(update={"guide": "unconditional"})
    if needs_null_class(sampling.model_copy(update={"guidance": evaluation.guidance})):
        yield Misfit(("evaluation.guidance",), f"is {evaluation.guidance:g}, and {NO_NULL_CLASS}: set it to 1")


def _changed(recipe: Recipe, theirs: Mapping[str, Any], fixed: Sequence[str]) -> Iterator[Misfit]:
    ours = dict(_leaves(recipe.model_dump()))
    for name, value in _leaves(theirs):
        if any(f"{name}.".startswith(f"{one}.") for one in fixed) and name not in FREE and ours[name] != value:
            yield Misfit((name,), f"is {ours[name]}, but what the run begins from has {value}")


def _leaves(section: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of all fields."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}{key}.")
        else:
            yield f"{name}{key}", value
