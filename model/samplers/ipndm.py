"""iPNDM: Adams-Bashforth on the noise direction (Liu et al. 2022; improved start of Zhang & Chen 2023, DEIS)."""

import numpy as np

from darkroom.model.diffusion.schedule import NoiseSchedule
from darkroom.model.samplers.step import MEMORY, M, StepTable, Times, X

ADAMS_BASHFORTH = (
    np.array([1.0]),
    np.array([3.0, -1.0]) / 2.0,
    np.array([23.0, -16.0, 5.0]) / 12.0,
    np.array([55.0, -59.0, 37.0, -9.0]) / 24.0,
)
"""Weights of the newest direction and those before it, by order. iPNDM uses these, made for even steps, on any grid."""


def ipndm(schedule: NoiseSchedule, times: Times, order: int) -> StepTable:
    """Liu et al. 2022, equation 12 on the ODE dx/alpha = eps d(sigma/alpha), with eps from the thresholded x_0.

    x_s / alpha_s = x / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) (a_0 eps + a_1 eps' + ...). The order rises
    over the first steps. The step to t = 0 has order 1, so that it ends on the last estimate.
    """
    table = StepTable.empty(times)
    alpha, sigma = schedule.alpha, schedule.sigma
    for k, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        eps = (X - alpha[t] * M) / sigma[t]
        weights = ADAMS_BASHFORTH[0 if s == 0 else min(order, k + 1) - 1]
        direction = weights @ np.stack([eps, *MEMORY])[: len(weights)]
        noise_to_signal = sigma[s] / alpha[s] - sigma[t] / alpha[t]
        table.set_step(k, alpha[s] * (X / alpha[t] + noise_to_signal * direction), eps, MEMORY[0], MEMORY[1])
    return table
