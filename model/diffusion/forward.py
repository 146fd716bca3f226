"""The forward process and its posterior (Ho et al. 2020, section 2)."""

from torch import Tensor

from darkroom.model.diffusion.prediction import per_row
from darkroom.model.diffusion.schedule import NoiseSchedule


def add_noise(schedule: NoiseSchedule, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Sample q(x_t | x_0): sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (Ho et al. 2020, equation 4).

    x0, eps: (B, ...); t: (B,) int64 in 0..T.
    """
    return per_row(schedule.alpha, t, x0) * x0 + per_row(schedule.sigma, t, x0) * eps


def posterior_coefficients(schedule: NoiseSchedule, t: int, s: int) -> tuple[float, float, float]:
    """Return (a, b, v) of the posterior q(x_s | x_t, x_0) = N(a x_0 + b x_t, v), for s < t.

    For s = t - 1 these are equations 6 and 7 of Ho et al. 2020. For a larger stride, beta_t is recomputed on the
    sub-sequence as 1 - abar_t / abar_s (Nichol & Dhariwal 2021, section 4).
    """
    abar_t, abar_s = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s])
    beta = 1.0 - abar_t / abar_s
    a = abar_s**0.5 * beta / (1.0 - abar_t)
    b = (1.0 - beta) ** 0.5 * (1.0 - abar_s) / (1.0 - abar_t)
    return a, b, beta * (1.0 - abar_s) / (1.0 - abar_t)
