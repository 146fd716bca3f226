"""The learned variance of a reverse step: what the network says of it, and the bound that teaches it.

Nichol & Dhariwal 2021, section 3.1, equation 15, for each pixel:

    v_t = exp(f log beta_t + (1 - f) log beta-tilde_t)

f = (o + 1) / 2 with the network's second output o, so that a network that says nothing yet takes the middle; f is not
bounded, so variances outside of the two are possible. As beta-tilde_1 is zero, beta-tilde_2 stands for it, as in their
code. On a sub-sequence of the times both are recomputed, and f is read the same way (section 4).
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


def to_fraction(output: Tensor) -> Tensor:
    """f of the network's second output."""
    return (output + 1.0) * 0.5


@lru_cache(maxsize=16)
def _tables(config: ScheduleConfig) -> tuple[Table, Table, Table]:
    """(log beta-tilde_t, log(beta_t / beta-tilde_t), a_t^2) over t >= 1; a: of x_0 in the posterior's mean."""
    schedule = make_schedule(config)
    small, factor = np.ones(schedule.steps + 1), np.zeros(schedule.steps + 1)
    for t in range(1, schedule.steps + 1):
        a, _, small[t] = posterior_coefficients(schedule, t, t - 1)
        factor[t] = a * a
    small[1] = small[2]
    large = np.concatenate([[1.0], schedule.beta[1:]])
    return np.log(small), np.log(large / small), factor


def bound_terms(schedule: ScheduleConfig, x0: Tensor, estimate: Tensor, fraction: Tensor, t: Tensor) -> Tensor:
    """L_{t-1} of each row in nats, (B,): the terms of Nichol & Dhariwal 2021, equations 5 and 6.

    For t > 1 the divergence of N(mean of `estimate`, v_t) from the posterior q(x_{t-1} | x_t, x0), and for t = 1 the
    likelihood of the pixels x0 under N(`estimate`, v_1). x0, estimate, fraction: (B, C, H, W) float64; t: (B,) in 1..T.
    """
    log_small, log_ratio, factor = (per_row(table, t, x0) for table in _tables(schedule))
    above = fraction * log_ratio  # log(v_t / beta-tilde_t)
    error = factor * (x0 - estimate).square() * (-log_small).exp()
    terms: Tensor = 0.5 * (above + (-above).exp() * (1.0 + error) - 1.0).flatten(1).sum(1)
    first = (t == 1).to(x0.device)
    if first.any():
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
    """Each row's estimate of L_vlb, T L_{t-1}, in bits per dimension, (B,) float32, for times that are drawn uniformly.

    Another density of the times weights its terms, as it does the squared errors; where each is least stays the same.
    It teaches the variance alone: `output`, the prediction, is taken as it is (their section 3.1: a stop-gradient on
    the mean, equation 16). The estimate of x_0 is clipped to -1..1, as samplers and the bound as a metric have it.
    x, output, fraction, x0: (B, C, H, W); t: (B,) in 1..T on the CPU.
    """
    estimate = to_x0(make_schedule(schedule), prediction, x.double(), output.detach().double(), t).clamp(-1.0, 1.0)
    terms = bound_terms(schedule, x0.double(), estimate, fraction.double(), t)
    return (terms * (schedule.steps / (math.prod(x0.shape[1:]) * math.log(2.0)))).float()
