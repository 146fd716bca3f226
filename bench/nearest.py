"""Measures memorisation: the pixel L2 distance from generated images to their nearest training images."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

NEIGHBOURS = 50


@dataclass(frozen=True)
class Nearest:
    """The nearest training images of each of N images.

    index: (N,) position of the nearest; distance: (N,) L2 distance to it, pixels scaled to 0..1.
    ratio: (N,) that distance divided by the mean distance to the NEIGHBOURS nearest. It is near 0 for a copy and near 1
    for an image like many others (Carlini et al. 2023).
    """

    index: Indices
    distance: Floats
    ratio: Floats


def nearest(images: Pixels, training: Pixels, *, chunk_images: int = 200) -> Nearest:
    """Search all of `training` (M, C, H, W) for the images nearest to each of `images` (N, C, H, W)."""
    points = torch.tensor(training.reshape(len(training), -1), dtype=torch.float32) / 255.0
    lengths = points.square().sum(1)
    indices, distances, ratios = [], [], []
    for first in range(0, len(images), chunk_images):
        chunk = images[first : first + chunk_images]
        queries = torch.tensor(chunk.reshape(len(chunk), -1), dtype=torch.float32) / 255.0
        rough = torch.addmm(lengths, queries, points.T, alpha=-2.0)  # squared distance less |query|^2
        candidates = rough.topk(min(NEIGHBOURS, len(points)), largest=False).indices
        # The short formula loses digits at small distances, which matter most: compute the distance again exactly.
        exact = (points[candidates].double() - queries[:, None].double()).square().sum(2).sqrt()
        best = exact.min(1)
        mean = exact.mean(1)
        indices.append(candidates.gather(1, best.indices[:, None])[:, 0])
        distances.append(best.values)
        ratios.append(torch.where(mean > 0, best.values / mean, torch.zeros_like(mean)))
    return Nearest(torch.cat(indices).numpy(), torch.cat(distances).numpy(), torch.cat(ratios).numpy())


def nearest_table(generated: Nearest, real: Nearest) -> str:
    """A Markdown table that compares generated images with real ones that were not in the training set."""
    lines = [
        "| images | number | distance: least | 5% quantile | median | ratio: least | 5% quantile | median |",
        "| --- |" + " ---: |" * 7,
    ]
    for name, found in (("generated", generated), ("real, from the test set", real)):
        numbers = [
            f"{value:.3f}"
            for values in (found.distance, found.ratio)
            for value in (values.min(), np.quantile(values, 0.05), np.median(values))
        ]
        lines.append(f"| {name} | {len(found.distance):,} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def most_alike(found: Nearest, classes: int, per_class: int) -> Indices:
    """Return the positions of the `per_class` images of each class that lie nearest to training images.

    found: for images ordered by class, equally many of each. Returns (classes * per_class,), ordered by class, then by
    distance.
    """
    distance = found.distance.reshape(classes, -1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :per_class]
    positions: Indices = (order + np.arange(classes)[:, None] * distance.shape[1]).reshape(-1)
    return positions
