"""A trained model in this process: `load` finds it, and it draws what the service would draw."""

import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkroom.image_list import ImageList
from darkroom.model.checkpoint import Checkpoint, CheckpointHeader, load_checkpoint
from darkroom.model.class_names import find_class
from darkroom.model.config import SamplingConfig, SettingsError
from darkroom.model.images.pictures import default_columns
from darkroom.model.images.pixels import to_pixels
from darkroom.model.machine.device import find_device
from darkroom.model.provenance import LARGEST_INDEX, LARGEST_SEED, random_seed
from darkroom.model.sampling.draw import RowPlan, plan_row, sample
from darkroom.model.sampling.scoring import score
from darkroom.model.sampling.suitability import NO_NULL_CLASS
from darkroom.model.sampling_fit import deterministic, fitted_for_user
from darkroom.shipped import shipped_file

Class = str | int


class TrainedModel:
    """A model that draws images of its classes.

    Settings are keyword arguments named as in POST /generate: sampler, steps, spacing, guidance, guidance_interval,
    guide, threshold, percentile, eta, variance. The model's own settings supply the others, and give way where they do
    not go with the named ones. Image j of a class depends on (seed, j), class and settings alone.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.header: CheckpointHeader = checkpoint.header
        self.digest: str = checkpoint.digest
        self.denoiser = checkpoint.denoiser(device)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.header.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of their indices."""
        return self.header.class_names

    def _label(self, given: Class) -> int:
        return find_class(self.class_names, given, self.header.undrawn)

    @property
    def sampling(self) -> SamplingConfig:
        """The model's own sampling settings."""
        return self.header.sampling

    def generate(
        self,
        classes: Class | Iterable[Class],
        n: int = 1,
        *,
        seed: int | None = None,
        first_index: int = 0,
        best_of: int | None = None,
        **settings: Any,
    ) -> ImageList:
        """Draw n images of each class: the pixels that POST /generate answers for the same request.

        classes: a name or an index, or several of them.
        seed: drawn at random when left out; the list that is returned has it.
        first_index: number of the first image of each class; more images of the same seed follow the ones before.
        best_of: draw so many of each class, and return the n that show their class most clearly, best first.
        Raises SettingsError and ClassNotFound (both UserError).
        """
        labels = [self._label(one) for one in _several(classes)]
        n, first_index = _whole("n", n), _whole("first_index", first_index)
        count = n if best_of is None else _whole("best_of", best_of)
        if not 1 <= n <= count:
            raise SettingsError(f"n is {n}: it must be 1 or more" + ("" if best_of is None else " and at most best_of"))
        if not labels:
            raise SettingsError("classes is empty: name at least one class")
        if first_index < 0 or first_index + count - 1 > LARGEST_INDEX:
            raise SettingsError(f"first_index is {first_index}: the images' numbers must be in 0..{LARGEST_INDEX}")
        seed = _seed(seed)
        sampling = fitted_for_user(self.header, settings)
        if best_of is not None and not self.header.null_class:
            raise SettingsError(f"best_of compares with no class, and {NO_NULL_CLASS}: leave it out")
        if best_of is not None and sampling.unconditional:
            raise SettingsError(
                "best_of needs images of a class, and guidance 0 draws images of none: name another one"
            )
        plans = [
            plan_row(self.denoiser, sampling, label=label, seed=seed, index=first_index + number)
            for label in labels
            for number in range(count)
        ]
        pixels, scores = self._draw(plans), []
        if best_of is not None:
            images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
            found = score(self.denoiser, images, [label for label in labels for _ in range(count)]).tolist()
            of_each = (range(first, first + count) for first in range(0, len(found), count))
            best = [row for rows in of_each for row in sorted(rows, key=lambda row: -found[row])[:n]]
            pixels, scores = pixels[best], [found[row] for row in best]
        columns = default_columns(len(labels), n)
        return ImageList(pixels, columns=columns, seed=seed, sampling=sampling, scores=scores)

    def interpolate(
        self,
        start: Class,
        end: Class | None = None,
        *,
        seeds: Sequence[int],
        count: int = 8,
        indices: Sequence[int] = (0, 0),
        **settings: Any,
    ) -> ImageList:
        """Draw `count` images on the way from one image to another, both included, as POST /v1/interpolate does.

        start, end: the classes of the first and the last image; without `end` both have the class `start`.
        seeds, indices: of the first and the last image. The sampler must be a deterministic one.
        Raises SettingsError and ClassNotFound (both UserError).
        """
        first = self._label(_class(start))
        last = first if end is None else self._label(_class(end))
        count = _whole("count", count)
        seeds, indices = _wholes("seeds", seeds), _wholes("indices", indices)
        if count < 2:
            raise SettingsError(f"count is {count}: a way has two ends, so it must be 2 or more")
        if len(seeds) != 2 or len(indices) != 2:
            raise SettingsError("seeds and indices must be two numbers each: of the first and of the last image")
        if not all(0 <= index <= LARGEST_INDEX for index in indices):
            raise SettingsError(f"indices must be in 0..{LARGEST_INDEX}")
        start_seed, end_seed = map(_seed, seeds)
        sampling = fitted_for_user(self.header, settings, [deterministic])
        plans = [
            plan_row(
                self.denoiser,
                sampling,
                label=first,
                seed=start_seed,
                index=indices[0],
                end_label=last,
                end_seed=end_seed,
                end_index=indices[1],
                mix=number / (count - 1),
            )
            for number in range(count)
        ]
        return ImageList(self._draw(plans), columns=count, seed=start_seed, sampling=sampling)

    def _draw(self, plans: Sequence[RowPlan]) -> np.ndarray:
        return to_pixels(sample(self.denoiser, plans))

    def __repr__(self) -> str:
        channels, height, width = self.denoiser.image_shape
        own = ", ".join(f"{name} {value}" for name, value in self.sampling.effective().items() if value is not None)
        return (
            f"<Darkroom model {self.name}, {self.digest}\n"
            f" {len(self.class_names)} classes: {', '.join(self.class_names)}\n"
            f" images: {width}x{height} pixels, {channels} channel{'s' if channels > 1 else ''}\n"
            f" own settings: {own}>"
        )


def load(model: str | Path, *, device: str | None = None) -> TrainedModel:
    """Return a shipped model by its name, or the model of a weights file (.safetensors) by its path.

    device: cpu, cuda or cuda:NUMBER; default: CUDA where there is one.
    Raises CheckpointError for a file that cannot be used, and UserError for an unknown name.
    """
    path = shipped_file(model, "weights", ".safetensors", "model")
    return TrainedModel(load_checkpoint(path), find_device(device, "device"))


def _several(classes: Class | Iterable[Class]) -> list[Class]:
    if isinstance(classes, Iterable) and not isinstance(classes, str):
        return [_class(one) for one in classes]
    return [_class(classes)]


def _class(given: Any) -> Class:
    return given if isinstance(given, str) else _whole("a class without a name", given)


def _whole(name: str, value: Any) -> int:
    """The value as an int, also of NumPy's integers; raises SettingsError for a fraction, a text or a truth value."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise SettingsError(f"{name} is {value!r}: it must be a whole number")


def _wholes(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise SettingsError(f"{name} is {values!r}: it must be two whole numbers, of the first and of the last image")
    return tuple(_whole(name, value) for value in values)


def _seed(seed: int | None) -> int:
    if seed is None:
        return random_seed()
    seed = _whole("seed", seed)
    if not 0 <= seed <= LARGEST_SEED:
        raise SettingsError(f"the seed is {seed}: it must be in 0..{LARGEST_SEED}")
    return seed
