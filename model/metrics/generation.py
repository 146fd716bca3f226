"""The generated images of an evaluation: which are drawn, how, and in batches that stream by."""

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
    """The model draws images that are not finite numbers."""


@dataclass(frozen=True)
class Row:
    """An image to draw. label: None for an unconditional one."""

    label: int | None
    index: int


@dataclass(frozen=True)
class Drawing:
    """Everything that fixes the generated images, given the weights.

    settings: the evaluation's own steps and guidance already in them.
    """

    rows: tuple[Row, ...]
    settings: SamplingConfig
    seed: int
    batch_images: int

    @property
    def conditional(self) -> bool:
        """Whether the images have classes."""
        return not self.settings.unconditional

    @property
    def facts(self) -> dict[str, str | int | float | None]:
        """Everything besides the weights that fixes the images; what has no effect is None."""
        return {
            "weights": "ema",
            "images": len(self.rows),
            "classes": "data-set-proportions" if self.conditional else None,
            "seed": self.seed,
            "indices": f"0..{max(row.index for row in self.rows)}",
            "batch_images": self.batch_images,  # decides the order of sums, and so the last digits
            **{name: canonical(value) for name, value in self.settings.effective().items()},
        }

    def check(self, denoiser: Denoiser) -> None:
        """Raises ValueError for settings that the model does not have or suit, before anything long is begun."""
        for field, text in drawing_faults(denoiser.config, self.settings, null_class=denoiser.null_class):
            raise ValueError(f"{field} {text}")
        plan_row(denoiser, self.settings, label=self.rows[0].label, seed=self.seed)


def plan_drawing(dataset: ImageDataset, classes: int, config: EvaluationConfig, sampling: SamplingConfig) -> Drawing:
    """`config.images` images, the classes in the data set's proportions; image k of a class has the index k."""
    settings = drawing_settings(config, sampling)
    if settings.unconditional:  # the class has no say, so equal indices of two classes would be one image twice
        rows = [Row(None, index) for index in range(config.images)]
    else:
        counts = class_counts(dataset.labels, classes, config.images)
        rows = [Row(label, index) for label, count in enumerate(counts) for index in range(count)]
    return Drawing(tuple(rows), settings, config.seed, config.batch_images)


def drawing_settings(config: EvaluationConfig, sampling: SamplingConfig) -> SamplingConfig:
    """`sampling` with the evaluation's own steps and guidance, where it has them."""
    given = {"steps": config.steps, "guidance": config.guidance}
    return sampling.model_copy(update={name: value for name, value in given.items() if value is not None})


def class_counts(labels: npt.NDArray[np.int64], classes: int, images: int) -> list[int]:
    """`images` divided among the classes in the labels' proportions."""
    return divided([int(count) for count in np.bincount(labels, minlength=classes)], images)


def divided(of_classes: Sequence[int], images: int) -> list[int]:
    """`images` divided in proportion to the classes' own numbers, by largest remainder (the lower class at a tie).

    Whole numbers throughout, so the result is the same everywhere.
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
    """(positions in drawing.rows, images (B, C, H, W) uint8 as they would be served), a batch at a time.

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
