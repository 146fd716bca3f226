"""Improved precision and recall (Kynkaanniemi et al. 2019, section 3): shares of a set in the other's manifold.

A set's manifold is the union of balls around its features. Each ball's radius is the distance to the feature's k-th
nearest other feature in the set. Precision (fidelity) is the share of generated images in the manifold of the real
ones (equation 2); recall (coverage) is the share of real images in the manifold of the generated ones.
"""

import torch
from torch import Tensor

from darkroom.model.metrics.pairs import Block, add_pairs

NEIGHBOURS = 3
"""k, as in Kynkaanniemi et al."""


class Radii:
    """Finds the squared distance of each feature to its k-th nearest other one, from the pairs of a set with itself."""

    def __init__(self, neighbours: int = NEIGHBOURS) -> None:
        self._neighbours = neighbours
        self._parts: list[Tensor] = []

    def add(self, block: Block) -> None:
        """Add a block."""
        distances = block.squared_distances
        rows = torch.arange(len(distances), device=distances.device)
        distances[rows, block.first + rows] = torch.inf
        self._parts.append(distances.topk(self._neighbours, dim=1, largest=False).values[:, -1])

    @property
    def squared(self) -> Tensor:
        """The squared distances, (N,)."""
        return torch.cat(self._parts)


class Membership:
    """Counts the features of either set in the other's manifold, from pairs of generated features with real ones.

    generated, real: the sets' squared radii, (M,) and (N,).
    """

    def __init__(self, generated: Tensor, real: Tensor) -> None:
        self._generated, self._real = generated, real
        self._precise = 0
        self._recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)

    def add(self, block: Block) -> None:
        """Add a block."""
        distances = block.squared_distances
        radii = self._generated[block.first : block.first + len(distances)]
        self._precise += int((distances <= self._real).any(1).sum())
        self._recalled |= (distances <= radii[:, None]).any(0)

    @property
    def precision(self) -> float:
        """Share of the generated features that lie in the manifold of the real ones, in 0..1."""
        return self._precise / len(self._generated)

    @property
    def recall(self) -> float:
        """Share of the real features that lie in the manifold of the generated ones, in 0..1."""
        return float(self._recalled.double().mean())


def squared_radii(features: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Return the squared distance of each feature (N, D) to its k-th nearest other one, (N,); ValueError for N <= k."""
    if len(features) <= neighbours:
        raise ValueError(f"a manifold needs more than {neighbours} images, not {len(features)}")
    radii = Radii(neighbours)
    add_pairs(features, features, radii)
    return radii.squared
