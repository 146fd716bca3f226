"""The quantities that a network may predict (eps, x_0 or v), and conversions between them.

With alpha = sqrt(abar_t) and sigma = sqrt(1 - abar_t): x_t = alpha x_0 + sigma eps and
v = alpha eps - sigma x_0 (Salimans & Ho 2022, appendix D).
"""

import numpy as np
from torch import Tensor

from darkroom.model.config import PredictionName
from darkroom.model.diffusion.schedule import NoiseSchedule, Table
from darkroom.model.machine.device import uploaded


def per_row(table: Table, t: Tensor, like: Tensor) -> Tensor:
    """Return table[t] in shape (B, 1, ...), to multiply rows of `like` (B, ...), in its type and on its device."""
    values = uploaded(table[t.cpu().numpy()], like.device, like.dtype)
    return values.reshape(-1, *[1] * (like.ndim - 1))


def x0_coefficients(schedule: NoiseSchedule, prediction: PredictionName) -> tuple[Table, Table]:
    """Return tables (a, b) over t with x_0 = a[t] x_t + b[t] output for a network that predicts `prediction`."""
    alpha, sigma = schedule.alpha, schedule.sigma
    if prediction == "eps":
        return 1.0 / alpha, -sigma / alpha
    if prediction == "v":
        return alpha, -sigma
    return np.zeros_like(alpha), np.ones_like(alpha)


def to_x0(schedule: NoiseSchedule, prediction: PredictionName, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
    """Return x_0 from a network's output. x, output: (B, ...); t: (B,) int64."""
    a, b = x0_coefficients(schedule, prediction)
    return per_row(a, t, x) * x + per_row(b, t, x) * output


def from_x0(schedule: NoiseSchedule, prediction: PredictionName, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """Return the prediction that means `x0`, the inverse of `to_x0`; eps and v need t >= 1."""
    if prediction == "x0":
        return x0
    alpha, sigma = per_row(schedule.alpha, t, x), per_row(schedule.sigma, t, x)
    eps = (x - alpha * x0) / sigma
    return eps if prediction == "eps" else alpha * eps - sigma * x0


def convert(
    schedule: NoiseSchedule, source: PredictionName, target: PredictionName, x: Tensor, output: Tensor, t: Tensor
) -> Tensor:
    """Convert a prediction of kind `source` to kind `target`. x, output: (B, ...); t: (B,) int64 in 1..T."""
    if source == target:
        return output
    return from_x0(schedule, target, x, to_x0(schedule, source, x, output, t), t)


def training_target(schedule: NoiseSchedule, prediction: PredictionName, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return the right prediction for the x_t made of `x0` and `eps`, both (B, ...)."""
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x0
    return per_row(schedule.alpha, t, x0) * eps - per_row(schedule.sigma, t, x0) * x0
