"""The distance of pictures of noise from a data set. Every training begins near it."""

import numpy as np
import numpy.typing as npt
import torch

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.metrics.extractors import load_extractor
from darkroom.model.metrics.fid import FeatureStatistics, frechet_distance
from darkroom.model.metrics.reference_images import ReferenceImages
from darkroom.model.metrics.references import ReferenceCache

NOISE_IMAGES, BATCH_IMAGES = 200, 64
"""Pictures of noise are much alike: 200 gave 3% more than 1,000 do, and take three to six seconds of a CPU."""


def noise_distance(dataset: ImageDataset, references: ReferenceCache) -> float:
    """Return the distance of uniform noise, as many pictures as the data set has but at most NOISE_IMAGES."""
    shape = (min(NOISE_IMAGES, len(dataset)), *dataset.images.shape[1:])
    return distance_of(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), dataset, references)


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
