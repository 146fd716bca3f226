"""Denoising diffusion implicit models (Song et al. 2021)."""

from darkroom.model.diffusion.schedule import NoiseSchedule
from darkroom.model.samplers.step import M, StepTable, Times, X


def ddim(schedule: NoiseSchedule, times: Times, eta: float) -> StepTable:
    """Song et al. 2021, equations 12 and 16, with eps derived again from the thresholded x_0.

    x_s = alpha_s m + sqrt(sigma_s^2 - n^2) eps + n z with n = eta sqrt(beta-tilde). The order is 1. eta = 1 is `ddpm`
    with beta-tilde; eta = 0 is the Euler method on the probability-flow ODE.
    """
    table = StepTable.empty(times)
    alpha, sigma, abar = schedule.alpha, schedule.sigma, schedule.alpha_bar
    for k, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        noise = eta * float((sigma[s] / sigma[t]) * (1.0 - abar[t] / abar[s]) ** 0.5)
        towards = max(0.0, float(sigma[s] ** 2) - noise**2) ** 0.5
        eps = (X - alpha[t] * M) / sigma[t]
        table.set_step(k, alpha[s] * M + towards * eps, noise=noise)
    return table
