"""The steps at which a row is guided, and the network rows that its steps cost."""

from functools import lru_cache

import numpy as np

from darkroom.model.config import SamplingConfig, ScheduleConfig, SpacingName
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.samplers.spacing import spaced_times


def network_rows_left(schedule: ScheduleConfig, sampling: SamplingConfig, guidance: float) -> tuple[int, ...]:
    """Return the network rows still to compute from each position on, (steps + 1,); the last is 0.

    A guided step costs two rows, any other step one. A step is guided when guidance is not 1 and its noise level
    sigma / alpha is above the low and at most the high end of the interval (Kynkaanniemi et al. 2024, section 3).
    """
    interval = (0.0, float("inf")) if sampling.guidance_interval is None else sampling.guidance_interval
    return _left(schedule, sampling.spacing, sampling.steps, interval if guidance != 1.0 else None)


@lru_cache(maxsize=256)
def _left(
    config: ScheduleConfig, spacing: SpacingName, steps: int, interval: tuple[float, float] | None
) -> tuple[int, ...]:
    schedule = make_schedule(config)
    times = spaced_times(schedule, spacing, steps)[:-1]
    levels = schedule.sigma[times] / schedule.alpha[times]
    guided = np.zeros(steps, dtype=bool) if interval is None else (interval[0] < levels) & (levels <= interval[1])
    left: list[int] = [*np.cumsum(1 + guided[::-1]).tolist()[::-1], 0]
    return tuple(left)
