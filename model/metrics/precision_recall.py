"""Improved precision and recall (Kynkaanniemi et al. 2019, section 3): shares of a set in the other's manifold.

A set's manifold is the union of balls around its features, each as wide as the distance to the feature's k-th nearest
neighbour in the set, itself not counted. Precision is the share of generated images in the real ones' manifold
(equation 2, their fidelity); recall the share of real images in the generated ones' (their coverage).
"""

import torch
from torch import Tensor

NEIGHBOURS = 3
"""k, Kynkaanniemi et al.'s."""

ROWS = 1024
"""Rows of a block of distances: they are never held all at once."""


def squared_radii(features: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Squared distance of each feature (N, D) to its k-th nearest other one, (N,). Raises ValueError for N <= k."""
    if len(features) <= neighbours:
        raise ValueError(f"a manifold needs more than {neighbours} images, not {len(features)}")
    radii = []
    for first in range(0, len(features), ROWS):
        rows = torch.arange(first, min(first + ROWS, len(features)), device=features.device)
        distances = _squared_distances(features[rows], features)
        distances[rows - first, rows] = torch.inf
        radii.append(distances.topk(neighbours, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def precision_and_recall(
    generated: Tensor, real: Tensor, real_squared_radii: Tensor, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """(precision, recall) of features (M, D) and (N, D), each in 0..1.

    real_squared_radii: `squared_radii(real)`. Raises ValueError when a set holds no more than k features.
    """
    generated_squared_radii = squared_radii(generated, neighbours)
    precise, recalled = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for first in range(0, len(generated), ROWS):
        rows = slice(first, first + ROWS)
        distances = _squared_distances(generated[rows], real)
        precise += int((distances <= real_squared_radii).any(1).sum())
        recalled |= (distances <= generated_squared_radii[rows, None]).any(0)
    return precise / len(generated), float(recalled.double().mean())


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(M, N). Taken around y's mean, where the short formula loses the fewest digits."""
    centre = y.mean(0)
    x, y = x - centre, y - centre
    return torch.addmm(y.square().sum(1), x, y.T, alpha=-2.0).add_(x.square().sum(1)[:, None]).clamp_(min=0.0)
