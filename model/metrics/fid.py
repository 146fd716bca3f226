"""The Fréchet distance between Gaussians fitted to two sets of features, in float64.

    d^2 = |m - m_r|^2 + tr S + tr S_r - 2 tr (R S R)^(1/2),  R = S_r^(1/2)

with means m, m_r and covariances S, S_r (Dowson & Landau 1982, equation 4; Heusel et al. 2017, equation 6). R S R is
symmetric, so its eigenvalues give the root's trace. R depends only on the reference, so it is computed once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.model.extension_points import METRICS
from darkroom.model.metrics.stored import decode_statistics, encode_statistics
from darkroom.model.protocol import Facts

FEWEST_IMAGES = METRICS["fid"].fewest_images
"""Least number of images of each side: a covariance divides by the number less one."""


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches; memory does not grow with their number.

    Batches are merged by Chan, Golub & LeVeque 1983, equation 2.1. Centred sums lose no digits by cancellation, as raw
    sums would.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dimension, dtype=torch.float64)
        self._scatter = torch.zeros(dimension, dimension, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add a batch of features (N, D), of any floating type and on any device."""
        x = features.to("cpu", torch.float64)
        if len(x) == 0:
            return
        mean, total = x.mean(0), self.count + len(x)
        centred, shift = x - mean, mean - self.mean
        self._scatter.addmm_(centred.T, centred)
        self._scatter.addr_(shift, shift, alpha=self.count * len(x) / total)
        self.mean += shift * (len(x) / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """(D, D), divided by count - 1. Raises ValueError for fewer than FEWEST_IMAGES."""
        if self.count < FEWEST_IMAGES:
            raise ValueError(f"a covariance needs {FEWEST_IMAGES} images or more, not {self.count}")
        return self._scatter / (self.count - 1)


@dataclass(frozen=True)
class FrechetReference:
    """Statistics of the reference set. mean: (D,) float64; root: (D, D) float64, the covariance's square root."""

    count: int
    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, statistics: FeatureStatistics) -> "FrechetReference":
        """Compute them from statistics; raises ValueError for fewer than two images."""
        values, vectors = torch.linalg.eigh(statistics.covariance)
        root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T  # rounding may turn zeros slightly negative
        return cls(statistics.count, statistics.mean.clone(), root)


def frechet_distance(statistics: FeatureStatistics, reference: FrechetReference) -> float:
    """Return d^2 as above. For equal sets it is zero up to rounding, and may be negative.

    Raises ValueError for fewer than two images or for features of another dimension.
    """
    if statistics.mean.shape != reference.mean.shape:
        raise ValueError(f"features of {len(statistics.mean)} and of {len(reference.mean)} dimensions do not compare")
    covariance, root = statistics.covariance, reference.root
    eigenvalues = torch.linalg.eigvalsh(root @ covariance @ root)
    shared = eigenvalues.clamp(min=0.0).sqrt().sum()
    means = (statistics.mean - reference.mean).square().sum()
    return float(means + covariance.trace() + root.square().sum() - 2.0 * shared)


def encode_reference(reference: FrechetReference, facts: Facts) -> bytes:
    """Return the statistics as a file (`model/metrics/stored.py`); facts: what they are the statistics of."""
    tensors = {"count": torch.tensor(reference.count), "mean": reference.mean, "root": reference.root}
    return encode_statistics(tensors, facts)


def decode_reference(data: bytes, facts: Facts, dimension: int) -> FrechetReference:
    """Read statistics back; raises StatisticsError when they are damaged or have other facts."""
    layout = {
        "count": ((), torch.int64),
        "mean": ((dimension,), torch.float64),
        "root": ((dimension, dimension), torch.float64),
    }
    tensors = decode_statistics(data, facts, layout)
    return FrechetReference(int(tensors["count"]), tensors["mean"], tensors["root"])
