"""Checks a recipe against its data set and its starting point before the job is queued, not hours later."""

from collections.abc import Iterator, Sequence

from darkroom.model.config import ModelConfig, Recipe
from darkroom.model.metrics.requirements import needed_networks
from darkroom.model.misfit import Misfit
from darkroom.model.training.recipe_fit import ImageFacts, recipe_misfits, state_misfits, weights_misfits
from darkroom.store.job_forms import ContinueFrom, ForkFrom
from darkroom.store.tables import Dataset, Worker
from darkroom.store.worker_repository import is_alive


def misfits(
    recipe: Recipe,
    dataset: Dataset,
    start: ContinueFrom | ForkFrom | None,
    origin: Recipe | ModelConfig | None,
    workers: Sequence[Worker],
) -> Iterator[Misfit]:
    """Yield the faults of a recipe that is valid by itself. origin: recipe or model of the starting point.

    workers: all known ones with the job's device. Without any, nobody knows what the next one will have.
    """
    form = dataset.image_channels, dataset.image_size
    yield from recipe_misfits(recipe, ImageFacts(*form, dataset.class_counts, dataset.class_names))
    if isinstance(origin, ModelConfig):
        yield from weights_misfits(recipe, origin)
    elif origin is not None:
        assert isinstance(start, ContinueFrom)
        kept = origin.training.guide_snapshot_images
        yield from state_misfits(recipe, origin, start.images_seen, kept is not None and kept <= start.images_seen)
    yield from _length(recipe, start)
    yield from _pace(recipe)
    yield from _devices(recipe, workers)
    yield from _networks(recipe, workers)


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


def _devices(recipe: Recipe, workers: Sequence[Worker]) -> Iterator[Misfit]:
    """Yield a number of devices that no worker has offered. A worker on a CPU can start any number of processes."""
    wanted = recipe.training.devices
    if not workers or any(one.device == "cpu" or one.devices >= wanted for one in workers):
        return
    have = ", ".join(f"{one.name} has {one.devices}" for one in workers)
    text = f"is {wanted}, and no worker has so many devices: {have}. Lower it, or first start a larger worker"
    yield Misfit(("training.devices",), text)


def _networks(recipe: Recipe, workers: Sequence[Worker]) -> Iterator[Misfit]:
    """Yield networks of metrics that no living worker has."""
    living = [one for one in workers if is_alive(one)]
    if recipe.evaluation is None or not living:
        return
    for name in needed_networks(recipe.evaluation):
        lacks = [f"{one.name}: {one.lacks[name]}" for one in living if one.lacks and name in one.lacks]
        if len(lacks) == len(living):
            field = "extractor" if name == recipe.evaluation.extractor else "metrics"
            yield Misfit((f"evaluation.{field}",), f"needs {name}, which no worker has ({'; '.join(lacks)})")
