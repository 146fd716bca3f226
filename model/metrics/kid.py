"""The kernel distance between two sets of features: the unbiased estimate of a squared maximum mean discrepancy.

    MMD^2 = sum_{i != j} k(x_i, x_j) / m(m - 1) + sum_{i != j} k(y_i, y_j) / n(n - 1) - 2 sum_{i, j} k(x_i, y_j) / m n

with k(x, y) = (x . y / D + 1)^3 (Binkowski et al. 2018, section 4 and equation 4). Binkowski et al. average over random
subsets; here every pair of two bounded sets counts once, which needs no random choice and varies less. Of the two sums
inside a set the reference's is kept with it. torchmetrics' KernelInceptionDistance keeps the features of all images
that it was shown and draws its subsets from torch's global generator, so it is the tests' oracle and not used here.
"""

import torch
from torch import Tensor

from darkroom.model.extension_points import METRICS
from darkroom.model.metrics.pairs import Block, go_through

KERNEL = "(x.y/D + 1)^3"

FEWEST_IMAGES = METRICS["kid"].fewest_images
"""Of each side: pairs of different images are what the estimate is a mean of."""


class KernelSum:
    """sum_{i, j} k(x_i, y_j) over blocks of pairs; values in the features' own type, their sum in float64."""

    def __init__(self, dimension: int) -> None:
        self.value = 0.0
        self._dimension = dimension

    def add(self, block: Block) -> None:
        """Take in a block."""
        self.value += _kernel_sum(block.products, self._dimension)


def within(x: Tensor, all_pairs: float) -> float:
    """The sum over i != j of x (m, D) with itself, from that over all i, j."""
    return all_pairs - _kernel_sum(x.square().sum(1), x.shape[1])


def kernel_sum_within(x: Tensor) -> float:
    """sum_{i != j} k(x_i, x_j), x: (m, D)."""
    total = KernelSum(x.shape[1])
    go_through(x, x, total)
    return within(x, total.value)


def kernel_distance(m: int, n: int, x_within: float, y_within: float, across: float) -> float:
    """MMD^2 as above from its three sums; of equal distributions it lies around zero, on either side.

    Raises ValueError when a set holds fewer than FEWEST_IMAGES features.
    """
    if min(m, n) < FEWEST_IMAGES:
        raise ValueError(f"a kernel distance needs {FEWEST_IMAGES} images or more of each, not {m} and {n}")
    return x_within / (m * (m - 1)) + y_within / (n * (n - 1)) - 2.0 * across / (m * n)


def _kernel_sum(products: Tensor, dimension: int) -> float:
    base = products.div(dimension).add_(1.0)
    return float(base.square().mul_(base).sum(dtype=torch.float64))
