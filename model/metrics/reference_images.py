"""The data set that generated images are compared with: its statistics, computed once and cached."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import SamplingStopped
from darkroom.model.machine.shared_cores import leave_cores
from darkroom.model.metrics.extractor import FeatureExtractor
from darkroom.model.metrics.fid import FeatureStatistics, FrechetReference, decode_reference, encode_reference
from darkroom.model.metrics.kid import KERNEL, kernel_sum_within
from darkroom.model.metrics.precision_recall import NEIGHBOURS, squared_radii
from darkroom.model.metrics.references import ReferenceCache
from darkroom.model.metrics.stored import StatisticsError, decode_statistics, encode_statistics
from darkroom.model.progress import OnProgress, silent
from darkroom.model.protocol import Facts, protocol_digest

REFERENCE_IMAGES = 100_000
"""Most images of a data set that are used, evenly spaced, so that a first evaluation takes minutes."""

SAMPLE_IMAGES = 10_000
"""Most images of each side that are compared in pairs (kernel distance, precision and recall). It limits memory, and
work, which grows with the square."""

BATCH_IMAGES = 64

T = TypeVar("T")


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return min(count, most) evenly spaced indices in 0..count - 1, ascending."""
    taken = min(count, most)
    indices: npt.NDArray[np.int64] = np.arange(taken, dtype=np.int64) * count // max(1, taken)
    return indices


@dataclass(frozen=True)
class FeatureSample:
    """Features (N, D) float32 of at most SAMPLE_IMAGES images, and the results that depend only on them.

    kernel_within: `kernel_sum_within` of them. squared_radii: (N,) of `precision_recall`, infinite for N <= k.
    """

    features: Tensor
    kernel_within: float
    squared_radii: Tensor


@dataclass(frozen=True)
class ReferenceImages:
    """A data set in the features of an extractor.

    should_stop: called between batches; True raises SamplingStopped. on_progress: told how much of it is read.
    """

    dataset: ImageDataset
    extractor: FeatureExtractor
    cache: ReferenceCache
    should_stop: Callable[[], bool]
    on_progress: OnProgress = silent

    @property
    def facts(self) -> dict[str, str | int | float | None]:
        """The facts that determine the data set's features."""
        return {**extractor_facts(self.extractor), "reference_dataset_digest": self.dataset.digest}

    @property
    def frechet_facts(self) -> dict[str, str | int | float | None]:
        """The facts that determine `frechet()`."""
        return {**self.facts, "reference_images": min(len(self.dataset), REFERENCE_IMAGES)}

    @property
    def sample_facts(self) -> dict[str, str | int | float | None]:
        """The facts that determine `sample()`."""
        return {**self.facts, "reference_sample_images": min(len(self.dataset), SAMPLE_IMAGES)}

    def frechet(self) -> FrechetReference:
        """Return mean and covariance of the features of at most REFERENCE_IMAGES evenly spaced images."""
        dimension = self.extractor.dimension

        def compute() -> FrechetReference:
            statistics = FeatureStatistics(dimension)
            for features in self._features(REFERENCE_IMAGES):
                statistics.add(features)
            return FrechetReference.of(statistics)

        return cached(
            self.cache, self.frechet_facts, lambda d, f: decode_reference(d, f, dimension), compute, encode_reference
        )

    def sample(self) -> FeatureSample:
        """Return the features of at most SAMPLE_IMAGES evenly spaced images, on the extractor's device."""
        facts = {**self.sample_facts, "kernel": KERNEL, "neighbours": NEIGHBOURS}
        count, dimension = min(len(self.dataset), SAMPLE_IMAGES), self.extractor.dimension
        layout = {
            "features": ((count, dimension), torch.float32),
            "kernel_within": ((), torch.float64),
            "squared_radii": ((count,), torch.float32),
        }

        def compute() -> FeatureSample:
            features = torch.cat(list(self._features(SAMPLE_IMAGES)))
            radii = squared_radii(features) if count > NEIGHBOURS else torch.full((count,), torch.inf)
            return FeatureSample(features, kernel_sum_within(features), radii)

        def encode(sample: FeatureSample, facts: Facts) -> bytes:
            within = torch.tensor(sample.kernel_within, dtype=torch.float64)
            tensors = {"features": sample.features, "kernel_within": within, "squared_radii": sample.squared_radii}
            return encode_statistics(tensors, facts)

        def decode(data: bytes, facts: Facts) -> FeatureSample:
            tensors = decode_statistics(data, facts, layout)
            return FeatureSample(tensors["features"], float(tensors["kernel_within"]), tensors["squared_radii"])

        sample, device = cached(self.cache, facts, decode, compute, encode), self.extractor.device
        return FeatureSample(sample.features.to(device), sample.kernel_within, sample.squared_radii.to(device))

    def _features(self, most: int) -> Iterator[Tensor]:
        for images in image_batches(self.dataset, most, self.should_stop, self.on_progress):
            yield self.extractor.features(images)


def extractor_facts(extractor: FeatureExtractor) -> dict[str, str | int | float | None]:
    """Return the facts that determine an image's features."""
    return {
        "extractor": extractor.name,
        "extractor_weights_digest": extractor.weights_digest,
        **{f"extractor_{name}": value for name, value in extractor.protocol.items()},
    }


def image_batches(
    dataset: ImageDataset, most: int, should_stop: Callable[[], bool], on_progress: OnProgress
) -> Iterator[Tensor]:
    """Yield evenly spaced images (B, C, H, W) uint8, in batches of BATCH_IMAGES; raises SamplingStopped."""
    indices = evenly_spaced(len(dataset), most)
    for first in range(0, len(indices), BATCH_IMAGES):
        if should_stop():
            raise SamplingStopped
        on_progress("looking at the data set's images", first, len(indices))
        leave_cores()
        yield torch.from_numpy(dataset.images[indices[first : first + BATCH_IMAGES]])


def cached(
    cache: ReferenceCache,
    facts: Facts,
    decode: Callable[[bytes, Facts], T],
    compute: Callable[[], T],
    encode: Callable[[T, Facts], bytes],
) -> T:
    """Return the cached result for these facts; a missing or damaged entry, or one of other facts, is computed anew."""
    key = protocol_digest(facts)
    data = cache.get(key)
    if data is not None:
        try:
            return decode(data, facts)
        except StatisticsError:
            pass
    computed = compute()
    cache.put(key, encode(computed, facts))
    return computed
