"""DPM-Solver++: multistep in the log-SNR with x_0 prediction (Lu et al. 2022b), of order 2 (2M) or 3 (3M)."""

import math

from darkroom.model.diffusion.schedule import NoiseSchedule
from darkroom.model.samplers.step import MEMORY, M, StepTable, Times, X


def dpmpp(schedule: NoiseSchedule, times: Times, order: int) -> StepTable:
    """x_s = (sigma_s / sigma_t) x + alpha_s (p_0 m + p_1 m' + p_2 m'').

    h is the step in lambda = log(alpha / sigma); p_i is the integral of e^(lambda - lambda_s) (lambda - lambda_t)^i /
    (h^i i!) over the step; m', m'' are derivatives by lambda / h, from differences of the estimates. Order 2 is
    Lu et al. 2022b, algorithm 2, which has p_0 / 2 for p_1. Order 3 is their equation 9; its m'' is twice the divided
    difference. (Common implementations omit the 2, which makes them second order.) The first steps have lower orders.
    The step to t = 0, where h is infinite, has order 1.
    """
    table = StepTable.empty(times)
    alpha, sigma, lam = schedule.alpha, schedule.sigma, schedule.half_log_snr
    h1, h2, _ = MEMORY  # the estimates one and two steps before
    for k, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        h = float(lam[s] - lam[t])
        p0 = -math.expm1(-h)
        move = p0 * M
        reached = 1 if math.isinf(h) else min(order, k + 1)
        if reached >= 2:
            r0 = float(lam[t] - lam[times[k - 1]]) / h
            slope = (M - h1) / r0
            move = move + 0.5 * p0 * slope
        if reached == 3:
            r1 = float(lam[times[k - 1]] - lam[times[k - 2]]) / h
            second = 2.0 * (slope - (h1 - h2) / r1) / (r0 + r1)
            p1 = 1.0 - p0 / h
            move = p0 * M + p1 * (slope + 0.5 * r0 * second) + (0.5 - p1 / h) * second
        table.set_step(k, sigma[s] / sigma[t] * X + alpha[s] * move, M, h1)
    return table
