"""Measures in how many generated images a classifier sees the requested class. It was trained on real images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bench.classifier import Classifier, ClassifierHeader, predict, recall_per_class
from darkroom.model.checkpoint import Checkpoint, CheckpointError
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample

FIRST_SEED = 1000
"""Image i of class c has the seed FIRST_SEED + c and the index i, so a larger request begins with the same images."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Agreement:
    """Shares (0..1) of generated images in which the classifier sees the requested class, overall and per class."""

    guidance: float
    images_per_class: int
    overall: float
    per_class: tuple[float, ...]


def check_classes(checkpoint: Checkpoint, judge: ClassifierHeader) -> None:
    """Raises CheckpointError unless both have the same classes in the same order and the same image shape."""
    names = checkpoint.header.class_names
    if names != judge.class_names:
        raise CheckpointError(f"the checkpoint's classes are {list(names)}, the judge's {list(judge.class_names)}")
    model = checkpoint.header.model
    if (model.image_channels, model.image_size) != (judge.image_channels, judge.image_size):
        raise CheckpointError(
            f"the checkpoint draws {model.image_channels} x {model.image_size} x {model.image_size} images, "
            f"the judge reads {judge.image_channels} x {judge.image_size} x {judge.image_size}"
        )


def generate(denoiser: Denoiser, sampling: SamplingConfig, images_per_class: int) -> Pixels:
    """Draw images (classes, images_per_class, H, W, C) uint8, with the seeds that FIRST_SEED describes."""
    classes = len(denoiser.class_names)
    plans = [
        plan_row(denoiser, sampling, label=label, seed=FIRST_SEED + label, index=index)
        for label in range(classes)
        for index in range(images_per_class)
    ]
    pixels = to_pixels(sample(denoiser, plans))
    return pixels.reshape(classes, images_per_class, *pixels.shape[1:])


def agreement(judge: Classifier, images: Pixels, guidance: float) -> Agreement:
    """Judge images (classes, images_per_class, H, W, C) that were drawn with `guidance`."""
    classes, count = images.shape[:2]
    flat = torch.from_numpy(images.reshape(classes * count, *images.shape[2:])).permute(0, 3, 1, 2)
    labels = torch.arange(classes).repeat_interleave(count)
    per_class = recall_per_class(predict(judge.network, flat), labels, classes)
    return Agreement(guidance, count, sum(per_class) / classes, per_class)


def agreement_table(judge: ClassifierHeader, results: Sequence[Agreement]) -> str:
    """A Markdown table: one column for each guidance weight, then the judge's own recall on real test images."""
    columns = [
        (
            f"guidance {result.guidance:g}",
            result.images_per_class * len(result.per_class),
            result.overall,
            result.per_class,
        )
        for result in results
    ]
    columns.append(("real test images", judge.test_images, judge.test_accuracy, judge.recalls))
    names, images, overall, shares = zip(*columns, strict=True)
    return "\n".join(
        [
            f"| class | {' | '.join(names)} |",
            "| --- |" + " ---: |" * len(columns),
            f"| images | {' | '.join(f'{count:,}' for count in images)} |",
            *(
                f"| {name} | {' | '.join(f'{share:.1%}' for share in line)} |"
                for name, line in zip(("all", *judge.class_names), (overall, *zip(*shares, strict=True)), strict=True)
            ),
        ]
    )
