"""UniPC: a predictor and a corrector that share one network evaluation (Zhao et al. 2023), B2 variant, data prediction.

The predictor has order 2 or 3; the corrector raises the order by one.
"""

import math

import numpy as np

from darkroom.model.diffusion.schedule import NoiseSchedule, Table
from darkroom.model.samplers.step import MEMORY, Combination, M, StepTable, Times, X


def unipc(schedule: NoiseSchedule, times: Times, order: int) -> StepTable:
    """Zhao et al. 2023, algorithms 1 and 2 with x_0 prediction.

    The first steps have lower orders. Where the times end at 0, so do the last steps: order 1 to t = 0, 2 before it.
    All terms of the corrector but that of the newest estimate are known one step earlier; one memory image holds them.
    """
    table = StepTable.empty(times)
    alpha, sigma, lam = schedule.alpha, schedule.sigma, schedule.half_log_snr
    known, h1, h2 = MEMORY  # the corrected point without its newest term; the estimates one and two steps before
    newest = 0.0
    steps = len(times) - 1
    for k, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        corrected = X if k == 0 else known + newest * M
        here = min(order, k + 1, steps - k if times[-1] == 0 else order)
        h = float(lam[s] - lam[t])
        base = -float(alpha[s]) * math.expm1(-h)
        plain = sigma[s] / sigma[t] * corrected + base * M
        ratios = _ratios(lam, times, k, here)
        slopes = [(earlier - M) / r for earlier, r in zip((h1, h2), ratios, strict=False)]
        predicted = plain + base * _weighted(_predictor_weights(h, ratios), slopes)
        if math.isinf(h):  # the last estimate is the image, so nothing needs correction
            table.set_step(k, predicted)
            continue
        *weights, last = _corrector_weights(h, ratios)
        newest = base * last
        table.set_step(k, predicted, plain + base * _weighted(weights, slopes) - newest * M, M, h1)
    return table


def _ratios(lam: Table, times: Times, k: int, order: int) -> list[float]:
    """Return r_i = (lambda of the i-th time before - lambda_t) / h for i = 1..order - 1, all negative."""
    h = lam[times[k + 1]] - lam[times[k]]
    return [float((lam[times[k - i]] - lam[times[k]]) / h) for i in range(1, order)]


def _weighted(weights: list[float], slopes: list[Combination]) -> Combination:
    return sum((w * slope for w, slope in zip(weights, slopes, strict=True)), np.zeros_like(M))


def _moments(h: float, count: int) -> list[float]:
    """Return the right-hand side b of Zhao et al. 2023, equation 9, for B(h) = e^-h - 1."""
    phi = math.expm1(-h) / -h - 1.0
    factorial = 1
    b = []
    for i in range(1, count + 1):
        b.append(phi * factorial / math.expm1(-h))
        factorial *= i + 1
        phi = phi / -h - 1.0 / factorial
    return b


def _solve(h: float, ratios: list[float]) -> list[float]:
    powers = np.vander(ratios, increasing=True).T
    weights: list[float] = np.linalg.solve(powers, np.array(_moments(h, len(ratios)))).tolist()
    return weights


def _predictor_weights(h: float, ratios: list[float]) -> list[float]:
    """Return the weights of (h_i - m) / r_i. One alone is 1/2, exact enough for order 2 (as in Zhao et al.'s code)."""
    return [0.5] * len(ratios) if len(ratios) < 2 else _solve(h, ratios)


def _corrector_weights(h: float, ratios: list[float]) -> list[float]:
    """Return the weights of (h_i - m) / r_i, then that of the newest estimate's own difference, where r = 1."""
    return [0.5] if not ratios else _solve(h, [*ratios, 1.0])
