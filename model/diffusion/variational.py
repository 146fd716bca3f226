"""The last term of the variational bound: the mass of a normal distribution in the interval of a pixel's value."""

import torch
from torch import Tensor

HALF_BIN = 1.0 / 255.0
"""Half the width of a pixel value's interval, for pixels in -1..1."""


def decoder_term(x0: Tensor, mean: Tensor, deviation: float | Tensor) -> Tensor:
    """Return L_0 in nats, (B,); the intervals of the first and last pixel value are open (Ho et al. 2020, equation 13).

    x0, mean, and deviation if a tensor: (B, C, H, W) float64; x0 on the pixels' grid in -1..1. The mass has no lower
    limit such as 1e-12.
    """
    low, high = (x0 - HALF_BIN - mean) / deviation, (x0 + HALF_BIN - mean) / deviation
    low = torch.where(x0 < -1.0 + HALF_BIN, -torch.inf, low)
    high = torch.where(x0 > 1.0 - HALF_BIN, torch.inf, high)
    mirrored = low > 0.0  # far right of the mean both masses round to 1; mirrored, their logarithms differ
    below, above = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    log_above, log_below = torch.special.log_ndtr(above), torch.special.log_ndtr(below)
    nats: Tensor = -(log_above + torch.log1p(-torch.exp(log_below - log_above)))
    return nats.flatten(1).sum(1)
