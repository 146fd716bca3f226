"""Distances to a data set between which trainings move: of pictures of noise, and of its own pictures."""

import numpy as np
import numpy.typing as npt
import torch

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.metrics.extractors import load_extractor
from darkroom.model.metrics.fid import FeatureStatistics, frechet_distance
from darkroom.model.metrics.reference_images import ReferenceImages
from darkroom.model.metrics.references import ReferenceCache

NOISE_IMAGES, OWN_IMAGES, BATCH_IMAGES = 200, 1000, 64
"""Pictures of noise are much alike: 200 gave 3% more than 1,000 do, and take three to six seconds of a CPU."""


def noise_distance(dataset: ImageDataset, references: ReferenceCache) -> float:
    """Return the distance of uniform noise, as many pictures as the data set has but at most NOISE_IMAGES."""
    shape = (min(NOISE_IMAGES, len(dataset)), *dataset.images.shape[1:])
    return distance_of(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), dataset, references)


def own_distance(dataset: ImageDataset, references: ReferenceCache, images: int) -> float:
    """Return the distance of random pictures of the data set itself, some of them more than once.

    It is above 0, because so few pictures have other statistics than all. images: as many as other distances have; at
    most OWN_IMAGES, or those of the data set, are used.
    """
    count = min(images, OWN_IMAGES, len(dataset))
    rows = np.random.default_rng(0).integers(0, len(dataset), count)
    return distance_of(dataset.images[np.sort(rows)], dataset, references)


def distance_of(images: npt.NDArray[np.uint8], dataset: ImageDataset, references: ReferenceCache) -> float:
    """Return the Fréchet distance of images (N, C, H, W) to a data set, in EfficientNet-Lite0's features.

    references: caches the data set's statistics.
    """
    extractor = load_extractor("efficientnet-lite0")
    reference = ReferenceImages(dataset, extractor, references, lambda: False).frechet()
    statistics = FeatureStatistics(extractor.dimension)
    for first in range(0, len(images), BATCH_IMAGES):
        statistics.add(extractor.features(torch.from_numpy(images[first : first + BATCH_IMAGES].copy())))
    return frechet_distance(statistics, reference)
