"""Which of the schedule's times a sampler visits."""

import numpy as np
import numpy.typing as npt

from darkroom.model.config import SpacingName
from darkroom.model.diffusion.schedule import NoiseSchedule
from darkroom.model.samplers.step import Times

HIGHEST, LOWEST = 80.0, 0.002
"""Where `log_snr` and `edm` begin and end, in sigma / alpha (Karras et al. 2022, table 1).

The cosine schedule goes on to 20,000: more than a third of the steps in log-SNR would be spent where nothing is to be
seen yet. What is left out at that end is done by the analytic step whose estimate is the grey image, x_0 = 0: from pure
noise it leads to pure noise (as EDM's start does; off by the mean image / 80), so sampling begins at HIGHEST.
"""

RHO = 7.0
"""Karras et al. 2022, equation 5: steps grow with the noise level; infinite would be even steps in log-SNR."""


COARSE_LOWEST, COARSE_RHO = 0.08, 5.0
"""The last level that `edm_coarse` evaluates, and its power. Two of ten steps of `edm` lie about it or below, where
training seldom comes. Of the pairs tried at 10 steps on Fashion-MNIST the one of the lowest distance."""


def spaced_times(schedule: NoiseSchedule, spacing: SpacingName, steps: int) -> Times:
    """`steps` + 1 decreasing times from the first that is evaluated down to 0.

    Raises ValueError when there are not so many different times.
    """
    if spacing == "trailing":
        return trailing_times(schedule.steps, steps)
    if spacing == "edm":
        levels = _polynomial(LOWEST, RHO, steps + 1)[:-1]
    elif spacing == "edm_coarse":
        levels = _polynomial(COARSE_LOWEST, COARSE_RHO, steps)
    else:
        levels = np.geomspace(HIGHEST, LOWEST, steps + 1)[:-1]
    return _nearest_times(schedule, spacing, levels)


def _polynomial(lowest: float, rho: float, count: int) -> npt.NDArray[np.float64]:
    """Levels from HIGHEST to `lowest`, both included (Karras et al. 2022, equation 5)."""
    return np.linspace(HIGHEST ** (1.0 / rho), lowest ** (1.0 / rho), count) ** rho


def most_steps(schedule: NoiseSchedule, spacing: SpacingName) -> int:
    """How many steps a spacing has: as many as there are times from its first one on."""
    if spacing == "trailing":
        return schedule.steps
    times = np.arange(1, schedule.steps + 1)
    return int(np.round(np.interp(np.log(HIGHEST), -schedule.half_log_snr[1:], times)))


def trailing_times(schedule_steps: int, steps: int) -> Times:
    """`steps` + 1 times from T down to 0, evenly spaced so that T itself is always used (Lin et al. 2024, table 2)."""
    if not 1 <= steps <= schedule_steps:
        raise ValueError(f"steps must be between 1 and {schedule_steps}, not {steps}")
    return np.round(schedule_steps * np.arange(steps, -1, -1) / steps).astype(np.int64)


def _nearest_times(schedule: NoiseSchedule, spacing: SpacingName, levels: npt.NDArray[np.float64]) -> Times:
    """The times whose sigma / alpha is nearest in ratio to each of the falling levels, then 0; all different.

    Where levels lie closer together than times do, which is at the clean end, they move up to the next free time.
    """
    log_levels = -schedule.half_log_snr[1:]
    below = np.interp(np.log(levels), log_levels, np.arange(1, schedule.steps + 1))
    times = np.round(below).astype(np.int64)
    first = most_steps(schedule, spacing)
    count = len(levels)
    if not 1 <= count <= first:
        raise ValueError(
            f"steps must be between 1 and {first} with spacing {spacing}, not {count}; "
            f"spacing trailing takes up to {schedule.steps}"
        )
    after = np.arange(count, 0, -1)  # how many times from this one on have to differ
    times = after + np.maximum.accumulate((times - after)[::-1])[::-1]
    times = np.minimum(np.maximum(times, after), first + 1 - after[::-1])
    return np.append(times, 0)
