"""Distances to a data set between which trainings move: of pictures of noise, and of its own pictures."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import SamplingStopped
from darkroom.model.metrics.extractors import load_extractor
from darkroom.model.metrics.fid import FeatureStatistics, frechet_distance
from darkroom.model.metrics.reference_images import ReferenceImages
from darkroom.model.metrics.references import ReferenceCache

NOISE_IMAGES, OWN_IMAGES, BATCH_IMAGES = 200, 1000, 64
"""Pictures of noise are much alike: 200 gave 3% more than 1,000 do, and take three to six seconds of a CPU."""


def noise_distance(
    dataset: ImageDataset, references: ReferenceCache, should_stop: Callable[[], bool] = lambda: False
) -> float:
    """Return the distance of uniform noise, as many pictures as the data set has but at most NOISE_IMAGES."""
    shape = (min(NOISE_IMAGES, len(dataset)), *dataset.images.shape[1:])
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return distance_of(noise, dataset, references, should_stop)


def own_distance(
    dataset: ImageDataset, references: ReferenceCache, images: int, should_stop: Callable[[], bool] = lambda: False
) -> float:
    """Return the distance of random pictures of the data set itself, some of them more than once.

    It is above 0, because so few pictures have other statistics than all. images: as many as other distances have; at
    most OWN_IMAGES, or those of the data set, are used.
    """
    count = min(images, OWN_IMAGES, len(dataset))
    rows = np.random.default_rng(0).integers(0, len(dataset), count)
    return distance_of(dataset.images[np.sort(rows)], dataset, references, should_stop)


def distance_of(
    images: npt.NDArray[np.uint8],
    dataset: ImageDataset,
    references: ReferenceCache,
    should_stop: Callable[[], bool] = lambda: False,
) -> float:
    """Return the Fréchet distance of images (N, C, H, W) to a data set, in EfficientNet-Lite0's features.

    references: caches the data set's statistics. should_stop: called between batches; True raises SamplingStopped.
    """
    extractor = load_extractor("efficientnet-lite0")
    reference = ReferenceImages(dataset, extractor, references, should_stop).frechet()
    statistics = FeatureStatistics(extractor.dimension)
    for first in range(0, len(images), BATCH_IMAGES):
        if should_stop():
            raise SamplingStopped
        statistics.add(extractor.features(torch.from_numpy(images[first : first + BATCH_IMAGES].copy())))
    return frechet_distance(statistics, reference)
