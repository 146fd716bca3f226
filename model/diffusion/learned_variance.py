"""The learned variance of a reverse step: how the network's output encodes it, and the bound that trains it.

Nichol & Dhariwal 2021, section 3.1, equation 15, for each pixel:

    v_t = exp(f log beta_t + (1 - f) log beta-tilde_t)

Here f = (o + 1) / 2, where o is the network's second output. An untrained network has o = 0, which gives the geometric
mean of the two variances. There is no bound on f, so variances outside the two are possible. As beta-tilde_1 is zero,
beta-tilde_2 takes its place, as in their code. On a sub-sequence of the times both variances are recomputed, and f
keeps its meaning (section 4).
"""

import math
from functools import lru_cache

import numpy as np
from torch import Tensor

from darkroom.model.config import PredictionName, ScheduleConfig
from darkroom.model.diffusion.forward import posterior_coefficients
from darkroom.model.diffusion.prediction import per_row, to_x0
from darkroom.model.diffusion.schedule import Table, make_schedule
from darkroom.model.diffusion.variational import decoder_term
from darkroom.model.machine.device import uploaded


def to_fraction(output: Tensor) -> Tensor:
    """Return f for the network's second output o, of any shape."""
    return (output + 1.0) * 0.5


@lru_cache(maxsize=16)
def _tables(config: ScheduleConfig) -> tuple[Table, Table, Table]:
    """Return (log beta-tilde_t, log(beta_t / beta-tilde_t), a_t^2) over t >= 1; a_t: x_0's factor in the posterior."""
    schedule = make_schedule(config)
    small, factor = np.ones(schedule.steps + 1), np.zeros(schedule.steps + 1)
    for t in range(1, schedule.steps + 1):
        a, _, small[t] = posterior_coefficients(schedule, t, t - 1)
        factor[t] = a * a
    small[1] = small[2]
    large = np.concatenate([[1.0], schedule.beta[1:]])
    return np.log(small), np.log(large / small), factor


def bound_terms(schedule: ScheduleConfig, x0: Tensor, estimate: Tensor, fraction: Tensor, t: Tensor) -> Tensor:
    """Return L_{t-1} of each row in nats, (B,): the terms of Nichol & Dhariwal 2021, equations 5 and 6.

    t > 1: KL(q(x_{t-1} | x_t, x0) || N(mean for `estimate`, v_t)). t = 1: the negative log-likelihood of the pixels x0
    under N(`estimate`, v_1). x0, estimate, fraction: (B, C, H, W) float64; t: (B,) in 1..T on the CPU.
    """
    log_small, log_ratio, factor = (per_row(table, t, x0) for table in _tables(schedule))
    above = fraction * log_ratio  # log(v_t / beta-tilde_t)
    error = factor * (x0 - estimate).square() * (-log_small).exp()
    terms: Tensor = 0.5 * (above + (-above).exp() * (1.0 + error) - 1.0).flatten(1).sum(1)
    first = (t == 1).nonzero()[:, 0]  # found on the CPU, since a GPU would be waited for
    if len(first) > 0:
        first = uploaded(first, x0.device)
        deviation = (0.5 * (log_small + above)[first]).exp()
        terms = terms.index_put((first,), decoder_term(x0[first], estimate[first], deviation))
    return terms


def bound_losses(
    schedule: ScheduleConfig,
    prediction: PredictionName,
    x: Tensor,
    output: Tensor,
    fraction: Tensor,
    x0: Tensor,
    t: Tensor,
) -> Tensor:
    """Return each row's estimate T L_{t-1} of L_vlb in bits per dimension, (B,) float32, for uniformly drawn times.

    Another density of the times weights the terms, as it weights the squared errors; each term keeps its minimum.
    The loss trains the variance only: the mean gets no gradient (Nichol & Dhariwal 2021, section 3.1, equation 16).
    The estimate of x_0 is clipped to -1..1, as in the metric `bits_per_dimension`.
    x, output (the prediction), fraction, x0: (B, C, H, W); t: (B,) in 1..T on the CPU.
    """
    estimate = to_x0(make_schedule(schedule), prediction, x.double(), output.detach().double(), t).clamp(-1.0, 1.0)
    terms = bound_terms(schedule, x0.double(), estimate, fraction.double(), t)
    return (terms * (schedule.steps / (math.prod(x0.shape[1:]) * math.log(2.0)))).float()
