"""UniPC: a predictor and a corrector that share one network evaluation (Zhao et al. 2023), B2 variant, data prediction.

The predictor is of order 2 and the corrector raises it to 3; both are written as coefficients of the estimates.
"""

import math

import numpy as np

from model.samplers.step import StepTable, Times
from model.schedule import NoiseSchedule

ORDER = 2


def _moments(h: float, count: int) -> tuple[list[float], float]:
    """The right-hand side b of Zhao et al. 2023, equation 9 (for B(h) = e^-h - 1), and B(h) itself."""
    phi = math.expm1(-h) / -h - 1.0
    factorial = 1
    b = []
    for i in range(1, count + 1):
        b.append(phi * factorial / math.expm1(-h))
        factorial *= i + 1
        phi = phi / -h - 1.0 / factorial
    return b, math.expm1(-h)


def unipc(schedule: NoiseSchedule, times: Times) -> StepTable:
    """Zhao et al. 2023, algorithms 1 and 2 with x_0 prediction; lower orders at the start, order 1 to t = 0."""
    table = StepTable.empty(times)
    alpha, sigma, lam = schedule.alpha, schedule.sigma, schedule.half_log_snr
    for k, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        h = float(lam[s] - lam[t])
        if k > 0:
            before, order = int(times[k - 1]), min(ORDER, k)
            _set_corrector(table, k, schedule, before, t, int(times[k - 2]) if order == 2 else None)
        x, m, h1 = float(sigma[s] / sigma[t]), -float(alpha[s]) * math.expm1(-h), 0.0
        if k > 0 and not math.isinf(h):
            r = float(lam[times[k - 1]] - lam[t]) / h
            second = -float(alpha[s]) * math.expm1(-h) * 0.5 / r  # rho = 1/2 is exact enough for order 2
            m, h1 = m - second, second
        table.set_advance(k, x=x, m=m, h1=h1)
    return table


def _set_corrector(table: StepTable, k: int, schedule: NoiseSchedule, s: int, t: int, earlier: int | None) -> None:
    """Correct the point at time t, reached from s, with the estimate at t: h1 is the estimate at s, h2 at `earlier`."""
    lam = schedule.half_log_snr
    h = float(lam[t] - lam[s])
    alpha, ratio = float(schedule.alpha[t]), float(schedule.sigma[t] / schedule.sigma[s])
    base = -alpha * math.expm1(-h)
    if earlier is None:
        rho, slope = 0.5, 0.0
    else:
        r = float(lam[earlier] - lam[s]) / h
        b, _ = _moments(h, 2)
        first, rho = np.linalg.solve(np.array([[1.0, 1.0], [r, 1.0]]), np.array(b)).tolist()
        slope = first / r
    # x = ratio * previous + base * h1 + base * (slope * (h2 - h1) + rho * (m - h1))
    table.set_correct(k, x=0.0, previous=ratio, m=base * rho, h1=base * (1.0 - slope - rho), h2=base * slope)
