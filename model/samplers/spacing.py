"""Spacings: the times of the schedule at which a sampler evaluates the network."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from darkroom.model.config import SpacingName
from darkroom.model.diffusion.schedule import NoiseSchedule
from darkroom.model.samplers.step import Times

HIGHEST, LOWEST = 80.0, 0.002
"""Noise levels sigma / alpha at which `log_snr` and `edm` begin and end (Karras et al. 2022, table 1).

Below the lowest level, one analytic step finishes the image. Above the highest, the estimate is the mean (grey) image,
x_0 = 0: a step with this estimate leads from pure noise to pure noise, so sampling begins at HIGHEST. EDM begins in the
same way; the error is the mean image / 80. The cosine schedule itself begins at 20,000. More than a third of the steps
in log-SNR would then fall where no image is visible yet.
"""

RHO = 7.0
"""Exponent of Karras et al. 2022, equation 5. An infinite exponent would give even steps in log-SNR."""


COARSE_LOWEST, COARSE_RHO = 0.08, 5.0
"""The lowest noise level of `edm_coarse`, and its exponent. Two of ten steps of `edm` lie near this level or below,
where training rarely draws times. Among the pairs tried with 10 steps on Fashion-MNIST, this one had the lowest Fréchet
distance."""


@lru_cache(maxsize=256)
def spaced_times(schedule: NoiseSchedule, spacing: SpacingName, steps: int) -> Times:
    """Return `steps` + 1 decreasing times: those at which the network is evaluated, then 0.

    Raises ValueError when the schedule does not have that many different times.
    """
    times = _spaced_times(schedule, spacing, steps)
    times.setflags(write=False)
    return times


def _spaced_times(schedule: NoiseSchedule, spacing: SpacingName, steps: int) -> Times:
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
    """Return `count` levels from HIGHEST to `lowest`, both included (Karras et al. 2022, equation 5)."""
    return np.linspace(HIGHEST ** (1.0 / rho), lowest ** (1.0 / rho), count) ** rho


def most_steps(schedule: NoiseSchedule, spacing: SpacingName) -> int:
    """Return the largest number of steps of a spacing: the number of times from its first one to 1."""
    if spacing == "trailing":
        return schedule.steps
    times = np.arange(1, schedule.steps + 1)
    return int(np.round(np.interp(np.log(HIGHEST), -schedule.half_log_snr[1:], times)))


def trailing_times(schedule_steps: int, steps: int) -> Times:
    """Return `steps` + 1 times from T down to 0, evenly spaced and always including T (Lin et al. 2024, table 2)."""
    if not 1 <= steps <= schedule_steps:
        raise ValueError(f"steps must be between 1 and {schedule_steps}, not {steps}")
    return np.round(schedule_steps * np.arange(steps, -1, -1) / steps).astype(np.int64)


def _nearest_times(schedule: NoiseSchedule, spacing: SpacingName, levels: npt.NDArray[np.float64]) -> Times:
    """Return the time nearest to each of the falling levels, by ratio of sigma / alpha, then 0; all different.

    At low noise, levels may lie closer together than times. There, each moves up to the next free time.
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
    after = np.arange(count, 0, -1)  # times needed from this one down to 1
    times = after + np.maximum.accumulate((times - after)[::-1])[::-1]
    times = np.minimum(np.maximum(times, after), first + 1 - after[::-1])
    return np.append(times, 0)
