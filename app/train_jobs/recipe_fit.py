"""Checks a recipe against its data set and its starting point before the job is queued, not hours later."""

from collections.abc import Iterator

from darkroom.model.config import ModelConfig, Recipe
from darkroom.model.misfit import Misfit
from darkroom.model.training.recipe_fit import ImageFacts, recipe_misfits, state_misfits, weights_misfits
from darkroom.store.job_forms import ContinueFrom, ForkFrom
from darkroom.store.tables import Dataset


def misfits(
    recipe: Recipe, dataset: Dataset, start: ContinueFrom | ForkFrom | None, origin: Recipe | ModelConfig | None
) -> Iterator[Misfit]:
    """Yield the faults of a recipe that is valid by itself. origin: recipe or model of the starting point."""
    yield from recipe_misfits(recipe, ImageFacts(dataset.image_channels, dataset.image_size, dataset.class_counts))
    if isinstance(origin, ModelConfig):
        yield from weights_misfits(recipe, origin)
    elif origin is not None:
        assert isinstance(start, ContinueFrom)
        kept = origin.training.guide_snapshot_images
        yield from state_misfits(recipe, origin, start.images_seen, kept is not None and kept <= start.images_seen)
    yield from _length(recipe, start)
    yield from _pace(recipe)


def _length(recipe: Recipe, start: ContinueFrom | ForkFrom | None) -> Iterator[Misfit]:
    training = recipe.training
    if isinstance(start, ContinueFrom) and start.images_seen >= training.total_images:
        text = f"is {training.total_images}, and job {start.job_id} has seen {start.images_seen} images"
        yield Misfit(("training.total_images",), f"{text} already: set it higher")


def _pace(recipe: Recipe) -> Iterator[Misfit]:
    training = recipe.training
    every = {
        "training.checkpoint_every_images": training.checkpoint_every_images,
        "training.sample_every_images": training.sample_every_images,
    }
    if recipe.evaluation is not None:
        every["evaluation.every_images"] = recipe.evaluation.every_images
    for name, images in every.items():
        if images < min(training.batch_size, training.total_images):
            yield Misfit((name, "training.batch_size"), f"is {images}, less than a batch of {training.batch_size}")
