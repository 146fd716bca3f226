"""The generated images of an evaluation: plans them and draws them in batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from darkroom.model.config import EvaluationConfig, SamplingConfig
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser, SamplingStopped
from darkroom.model.images.pixels import to_pixels
from darkroom.model.protocol import canonical
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.sampling.suitability import drawing_faults


class NotFinite(ValueError):
    """The model draws images with numbers that are not finite."""


@dataclass(frozen=True)
class Row:
    """An image to draw. label: None for an unconditional one."""

    label: int | None
    index: int


@dataclass(frozen=True)
class Drawing:
    """Everything that determines the generated images, given the weights.

    settings: the result of `drawing_settings`.
    """

    rows: tuple[Row, ...]
    settings: SamplingConfig
    seed: int
    batch_images: int

    @property
    def conditional(self) -> bool:
        """True when images are drawn with classes."""
        return not self.settings.unconditional

    @property
    def facts(self) -> dict[str, str | int | float | None]:
        """The facts besides the weights that determine the images; None for settings without effect."""
        return {
            "weights": "ema",
            "images": len(self.rows),
            "classes": "data-set-proportions" if self.conditional else None,
            "seed": self.seed,
            "indices": f"0..{max(row.index for row in self.rows)}",
            "batch_images": self.batch_images,  # it determines the order of sums, and so the last digits
            **{name: canonical(value) for name, value in self.settings.effective().items()},
        }

    def check(self, denoiser: Denoiser) -> None:
        """Raise ValueError for settings that the model does not have or with which it would draw noise."""
        for field, text in drawing_faults(denoiser.config, self.settings, null_class=denoiser.null_class):
            raise ValueError(f"{field} {text}")
        plan_row(denoiser, self.settings, label=self.rows[0].label, seed=self.seed)


def plan_drawing(dataset: ImageDataset, classes: int, config: EvaluationConfig, sampling: SamplingConfig) -> Drawing:
    """Plan `config.images` images with classes in the data set's proportions; image k of a class has the index k."""
    settings = drawing_settings(config, sampling)
    if settings.unconditional:  # the class has no effect: equal indices of two classes would give the same image twice
        rows = [Row(None, index) for index in range(config.images)]
    else:
        counts = class_counts(dataset.labels, classes, config.images)
        rows = [Row(label, index) for label, count in enumerate(counts) for index in range(count)]
    return Drawing(tuple(rows), settings, config.seed, config.batch_images)


def drawing_settings(config: EvaluationConfig, sampling: SamplingConfig) -> SamplingConfig:
    """Return `sampling` with the evaluation's own steps and guidance, where it has them."""
    given = {"steps": config.steps, "guidance": config.guidance}
    return sampling.model_copy(update={name: value for name, value in given.items() if value is not None})


def class_counts(labels: npt.NDArray[np.int64], classes: int, images: int) -> list[int]:
    """Divide `images` among the classes in the labels' proportions. labels: (N,); returns a count for each class."""
    return divided([int(count) for count in np.bincount(labels, minlength=classes)], images)


def divided(of_classes: Sequence[int], images: int) -> list[int]:
    """Divide `images` in proportion to the numbers in `of_classes`, by largest remainder (the lower class on a tie).

    It computes in whole numbers, so that the result is the same on every machine.
    """
    whole, shares = sum(of_classes), [images * count for count in of_classes]
    counts = [share // whole for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda label: (-(shares[label] % whole), label))
    for label in by_remainder[: images - sum(counts)]:
        counts[label] += 1
    return counts


def draw(
    denoiser: Denoiser, drawing: Drawing, should_stop: Callable[[], bool]
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """Yield (positions in drawing.rows, images (B, C, H, W) uint8 as the service would return them) in batches.

    Raises NotFinite, and SamplingStopped between two batches.
    """
    for first in range(0, len(drawing.rows), drawing.batch_images):
        if should_stop():
            raise SamplingStopped
        positions = range(first, min(first + drawing.batch_images, len(drawing.rows)))
        plans = [
            plan_row(denoiser, drawing.settings, label=row.label, seed=drawing.seed, index=row.index)
            for row in (drawing.rows[position] for position in positions)
        ]
        images = sample(denoiser, plans, batch_rows=drawing.batch_images)
        if not images.isfinite().all():
            raise NotFinite("it draws images that are not finite numbers")
        yield positions, torch.from_numpy(to_pixels(images)).permute(0, 3, 1, 2)
