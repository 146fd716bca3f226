"""Thresholding: keeps the guided estimate of x_0 within the pixels' range, for each row, in float32."""

from collections.abc import Sequence

import torch
from torch import Tensor

from darkroom.model.config import ThresholdName
from darkroom.model.machine.device import uploaded


def row_quantiles(values: Tensor, quantiles: Tensor) -> Tensor:
    """Return the quantile of each row at its own level, linearly interpolated.

    values: (B, D); quantiles: (B,) in 0..1, on the CPU, so that nothing waits for the device; returns (B,).
    """
    size = values.shape[1]
    position = quantiles.to(values.dtype) * (size - 1)
    low, high = position.floor().long(), position.ceil().long()
    # Thresholds use high quantiles, so finding the few largest values is enough; sorting all is slower.
    largest = values.topk(size - int(low.min()), dim=1).values
    at_low, at_high = (
        largest.gather(1, uploaded(size - 1 - place[:, None], values.device))[:, 0] for place in (low, high)
    )
    return torch.lerp(at_low, at_high, uploaded(position - low, values.device))


def threshold(x0: Tensor, modes: Sequence[ThresholdName], percentiles: Sequence[float]) -> Tensor:
    """Apply each row's own thresholding. x0: (B, ...) float32 in units where pixels are -1..1; returns (B, ...).

    `none` leaves the row unchanged; `static` clamps to -1..1; `dynamic` computes s = max(1, quantile of |x_0| at the
    row's percentile), clamps to -s..s and divides by s (Saharia et al. 2022, section 2.3). Raises TypeError for
    another type than float32.
    """
    if x0.dtype != torch.float32:
        raise TypeError(f"thresholding is done in float32, not {x0.dtype}")
    shape = (-1, *[1] * (x0.ndim - 1))
    limit = uploaded([float("inf") if mode == "none" else 1.0 for mode in modes], x0.device)
    scale = torch.ones_like(limit)
    dynamic = [row for row, mode in enumerate(modes) if mode == "dynamic"]
    if dynamic:
        rows = uploaded(dynamic, x0.device)
        levels = torch.tensor([percentiles[row] for row in dynamic])
        s = row_quantiles(x0[rows].abs().flatten(1), levels).clamp(min=1.0)
        limit[rows], scale[rows] = s, s
    limit, scale = limit.reshape(shape), scale.reshape(shape)
    return x0.clamp(-limit, limit) / scale
