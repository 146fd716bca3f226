"""The kernel distance between two sets of features: the unbiased estimate of a squared maximum mean discrepancy.

    MMD^2 = sum_{i != j} k(x_i, x_j) / m(m - 1) + sum_{i != j} k(y_i, y_j) / n(n - 1) - 2 sum_{i, j} k(x_i, y_j) / m n

with k(x, y) = (x . y / D + 1)^3 (Binkowski et al. 2018, section 4 and equation 4). Binkowski et al. average over random
subsets; here every pair of two bounded sets counts once, which needs no random choice and varies less. Of the two sums
inside a set the reference's is kept with it. torchmetrics' KernelInceptionDistance keeps the features of all images
that it was shown and draws its subsets from torch's global generator, so it is the tests' oracle and not used here.
"""

import torch
from torch import Tensor

ROWS = 1024
"""Rows of a block of kernel values: they are never held all at once."""

KERNEL = "(x.y/D + 1)^3"


def kernel_sum(x: Tensor, y: Tensor) -> float:
    """sum_{i, j} k(x_i, y_j), x: (m, D), y: (n, D). Products in the features' own type, the rest in float64."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for first in range(0, len(x), ROWS):
        total += _kernel(x[first : first + ROWS] @ y.T, x.shape[1]).sum()
    return float(total)


def kernel_sum_within(x: Tensor) -> float:
    """sum_{i != j} k(x_i, x_j), x: (m, D)."""
    itself = _kernel(x.square().sum(1), x.shape[1]).sum()
    return kernel_sum(x, x) - float(itself)


def kernel_distance(x: Tensor, reference: Tensor, reference_within: float) -> float:
    """MMD^2 as above of x (m, D) and reference (n, D); of equal distributions it lies around zero, on either side.

    reference_within: `kernel_sum_within(reference)`. Raises ValueError when a set holds fewer than two features.
    """
    m, n = len(x), len(reference)
    if min(m, n) < 2:
        raise ValueError(f"a kernel distance needs two images or more of each, not {m} and {n}")
    across = kernel_sum(x, reference)
    return kernel_sum_within(x) / (m * (m - 1)) + reference_within / (n * (n - 1)) - 2.0 * across / (m * n)


def _kernel(products: Tensor, dimension: int) -> Tensor:
    base = products.double().div_(dimension).add_(1.0)
    return base.square().mul_(base)
