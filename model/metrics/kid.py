"""The kernel distance between two sets of features: the unbiased estimate of a squared maximum mean discrepancy.

    MMD^2 = sum_{i != j} k(x_i, x_j) / m(m - 1) + sum_{i != j} k(y_i, y_j) / n(n - 1) - 2 sum_{i, j} k(x_i, y_j) / m n

with k(x, y) = (x . y / D + 1)^3 (Binkowski et al. 2018, section 4 and equation 4). Binkowski et al. average over random
subsets. Here every pair of two bounded sets counts once, which needs no random choice and varies less. The reference's
own sum, over the pairs y_i, y_j, is cached with its features.

torchmetrics' KernelInceptionDistance is the tests' oracle only: it keeps the features of all images, and draws its
subsets from torch's global generator.
"""

import torch
from torch import Tensor

from darkroom.model.extension_points import METRICS
from darkroom.model.metrics.pairs import Block, add_pairs

KERNEL = "(x.y/D + 1)^3"

FEWEST_IMAGES = METRICS["kid"].fewest_images
"""Least number of images of each side: the estimate is a mean over pairs of different images."""


class KernelSum:
    """Adds up sum_{i, j} k(x_i, y_j) over blocks of pairs; values in the features' own type, their sum in float64."""

    def __init__(self, dimension: int) -> None:
        self.value = 0.0
        self._dimension = dimension

    def add(self, block: Block) -> None:
        """Add a block."""
        self.value += _kernel_sum(block.products, self._dimension)


def within(x: Tensor, all_pairs: float) -> float:
    """Return sum_{i != j} k(x_i, x_j), for x (m, D), from the sum over all i, j."""
    return all_pairs - _kernel_sum(x.square().sum(1), x.shape[1])


def kernel_sum_within(x: Tensor) -> float:
    """Return sum_{i != j} k(x_i, x_j), for x (m, D)."""
    total = KernelSum(x.shape[1])
    add_pairs(x, x, total)
    return within(x, total.value)


def kernel_distance(m: int, n: int, x_within: float, y_within: float, across: float) -> float:
    """Return MMD^2 as above from its three sums. For equal distributions it varies around zero and may be negative.

    Raises ValueError when a set holds fewer than FEWEST_IMAGES features.
    """
    if min(m, n) < FEWEST_IMAGES:
        raise ValueError(f"a kernel distance needs {FEWEST_IMAGES} images or more of each, not {m} and {n}")
    return x_within / (m * (m - 1)) + y_within / (n * (n - 1)) - 2.0 * across / (m * n)


def _kernel_sum(products: Tensor, dimension: int) -> float:
    base = products.div(dimension).add_(1.0)
    return float(base.square().mul_(base).sum(dtype=torch.float64))
