"""The last term of the variational bound: the mass that a normal distribution gives to a pixel's own interval."""

import torch
from torch import Tensor

HALF_BIN = 1.0 / 255.0
"""Half a pixel value's width where pixels lie in -1..1."""


def decoder_term(x0: Tensor, mean: Tensor, deviation: float | Tensor) -> Tensor:
    """L_0 in nats, (B,), open at the two ends of the scale (Ho et al. 2020, equation 13).

    x0, mean, and deviation if a tensor: (B, C, H, W) float64, x0 on the pixels' grid in -1..1. Taken as it is, however
    small the mass.
    """
    low, high = (x0 - HALF_BIN - mean) / deviation, (x0 + HALF_BIN - mean) / deviation
    low = torch.where(x0 < -1.0 + HALF_BIN, -torch.inf, low)
    high = torch.where(x0 > 1.0 - HALF_BIN, torch.inf, high)
    mirrored = low > 0.0  # far out on the right both masses are one, on the left their logarithms differ
    below, above = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    log_above, log_below = torch.special.log_ndtr(above), torch.special.log_ndtr(below)
    nats: Tensor = -(log_above + torch.log1p(-torch.exp(log_below - log_above)))
    return nats.flatten(1).sum(1)
