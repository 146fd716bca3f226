"""Whether a recipe suits its data set and what it begins from: found out before a job is queued, not hours later."""

from collections.abc import Iterator

from app.api.train_fields import LONGEST_TRAINING_IMAGES
from model.config import ModelConfig, Recipe
from store.job_forms import ContinueFrom, ForkFrom
from store.tables import Dataset

Misfit = tuple[tuple[str, ...], str]
"""A field of the recipe, by the parts of its name, and what is wrong with it."""


def misfits(
    recipe: Recipe, dataset: Dataset, start: ContinueFrom | ForkFrom | None, start_model: ModelConfig | None
) -> Iterator[Misfit]:
    """What is wrong with a recipe that is valid by itself. start_model: of what the job begins from."""
    yield from _network(recipe, dataset, start_model)
    yield from _length(recipe, start)
    yield from _pace(recipe)
    yield from _steps(recipe)


def _network(recipe: Recipe, dataset: Dataset, start_model: ModelConfig | None) -> Iterator[Misfit]:
    unet, side = recipe.model.unet, dataset.image_size
    network = ("model", "unet")
    for name, ours, theirs in (
        ("image_channels", unet.image_channels, dataset.image_channels),
        ("image_size", unet.image_size, side),
    ):
        if ours != theirs:
            shape = f"{side}x{side} pixels and {dataset.image_channels} channel(s)"
            yield (
                (*network, name),
                f"is {ours}, but the data set {dataset.name!r} has images of {shape}: set it to {theirs}",
            )
    if start_model is not None:
        theirs_unet = start_model.unet
        for name in type(unet).model_fields:
            ours, theirs = getattr(unet, name), getattr(theirs_unet, name)
            if name != "dropout" and ours != theirs:  # dropout belongs to training, not to the weights
                yield (*network, name), f"is {ours}, but what the job begins from has {theirs}"


def _length(recipe: Recipe, start: ContinueFrom | ForkFrom | None) -> Iterator[Misfit]:
    training = recipe.training
    if training.total_images > LONGEST_TRAINING_IMAGES:
        yield ("training", "total_images"), f"is more than {LONGEST_TRAINING_IMAGES}"
    if isinstance(start, ContinueFrom) and start.images_seen >= training.total_images:
        detail = f"is {training.total_images}, and job {start.job_id} has seen {start.images_seen} images"
        yield ("training", "total_images"), f"{detail} already: set it higher"


def _pace(recipe: Recipe) -> Iterator[Misfit]:
    training = recipe.training
    every = {
        ("training", "checkpoint_every_images"): training.checkpoint_every_images,
        ("training", "sample_every_images"): training.sample_every_images,
    }
    if recipe.evaluation is not None:
        every["evaluation", "every_images"] = recipe.evaluation.every_images
    for path, images in every.items():
        if images < min(training.batch_size, training.total_images):
            yield path, f"is {images}, less than a batch of {training.batch_size}"


def _steps(recipe: Recipe) -> Iterator[Misfit]:
    steps = {("sampling", "steps"): recipe.sampling.steps}
    if recipe.evaluation is not None and recipe.evaluation.steps is not None:
        steps["evaluation", "steps"] = recipe.evaluation.steps
    for path, count in steps.items():
        if count > recipe.model.schedule.steps:
            yield path, f"is {count}, more than the {recipe.model.schedule.steps} diffusion steps"
