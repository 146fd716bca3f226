"""DPM-Solver++(2M): second-order multistep in the log-SNR (Lu et al. 2022b, algorithm 2)."""

import math

from model.samplers.step import StepTable, Times
from model.schedule import NoiseSchedule


def dpmpp_2m(schedule: NoiseSchedule, times: Times) -> StepTable:
    """x_s = (sigma_s / sigma_t) x - alpha_s (e^-h - 1) D with D = (1 + 1/(2r)) m - 1/(2r) h1.

    h is the step in lambda = log(alpha / sigma) and r the ratio of the step before to it. The first step is of first
    order, and so is the step to t = 0, where h is infinite.
    """
    table = StepTable.empty(times)
    alpha, sigma, lam = schedule.alpha, schedule.sigma, schedule.half_log_snr
    for k, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        h = float(lam[s] - lam[t])
        towards_m = -float(alpha[s]) * math.expm1(-h)
        extrapolate = 0.0 if k == 0 or math.isinf(h) else h / (2.0 * float(lam[t] - lam[times[k - 1]]))
        table.set_advance(
            k, x=float(sigma[s] / sigma[t]), m=towards_m * (1.0 + extrapolate), h1=-towards_m * extrapolate
        )
    return table
