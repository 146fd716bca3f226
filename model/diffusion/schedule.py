"""Noise schedules: how much signal and noise x_t has at each time t.

Notation of Ho et al. 2020 (DDPM): times t = 1..T; x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps. Index 0 of every
table is the clean image (abar_0 = 1), so that a sampler's last step needs no special case.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from darkroom.model.config import ScheduleConfig

Table = npt.NDArray[np.float64]


def _frozen(table: Table) -> Table:
    table.setflags(write=False)
    return table


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Immutable float64 tables of length T + 1, indexed by t.

    beta: variance added by step t, beta[0] = 0 (Ho et al. 2020, equation 2).
    """

    beta: Table

    @property
    def steps(self) -> int:
        """T, the number of diffusion steps."""
        return len(self.beta) - 1

    @cached_property
    def alpha_bar(self) -> Table:
        """abar_t = prod_{s <= t} (1 - beta_s) (Ho et al. 2020, equation 4)."""
        return _frozen(np.cumprod(1.0 - self.beta, dtype=np.float64))

    @cached_property
    def alpha(self) -> Table:
        """The signal's factor sqrt(abar_t). (Not Ho et al.'s alpha_t = 1 - beta_t.)"""
        return _frozen(np.sqrt(self.alpha_bar))

    @cached_property
    def sigma(self) -> Table:
        """The noise's factor sqrt(1 - abar_t)."""
        return _frozen(np.sqrt(1.0 - self.alpha_bar))

    @cached_property
    def half_log_snr(self) -> Table:
        """lambda_t = log(alpha_t / sigma_t), infinite at t = 0 (Lu et al. 2022, DPM-Solver)."""
        with np.errstate(divide="ignore"):
            return _frozen(np.log(self.alpha) - np.log(self.sigma))

    @cached_property
    def snr(self) -> Table:
        """abar_t / (1 - abar_t), infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return _frozen(self.alpha_bar / (1.0 - self.alpha_bar))


def cosine_schedule(steps: int, *, offset: float = 0.008, largest_beta: float = 0.999) -> NoiseSchedule:
    """Nichol & Dhariwal 2021, equation 17: abar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) * pi/2).

    beta is clipped at `largest_beta`, and abar is the product of the clipped factors.
    """
    times = np.arange(steps + 1, dtype=np.float64) / steps
    signal = np.cos((times + offset) / (1.0 + offset) * np.pi / 2.0) ** 2
    beta = np.minimum(1.0 - signal[1:] / signal[:-1], largest_beta)
    return NoiseSchedule(_frozen(np.concatenate([[0.0], beta])))


def linear_schedule(steps: int, *, first: float = 1e-4, last: float = 0.02) -> NoiseSchedule:
    """Ho et al. 2020, section 4: beta rises linearly between their end points for T = 1000, scaled by 1000/T."""
    scale = 1000.0 / steps
    beta = np.minimum(np.linspace(first * scale, last * scale, steps, dtype=np.float64), 0.999)
    return NoiseSchedule(_frozen(np.concatenate([[0.0], beta])))


@lru_cache(maxsize=16)
def make_schedule(config: ScheduleConfig) -> NoiseSchedule:
    """Return the schedule that a configuration names, from a cache."""
    return cosine_schedule(config.steps) if config.name == "cosine" else linear_schedule(config.steps)
