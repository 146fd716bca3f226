"""Drawing the times of a training batch."""

import numpy as np
import torch
from torch import Tensor

from darkroom.model.config import TimeSamplingConfig
from darkroom.model.diffusion.schedule import NoiseSchedule, Table


def time_probabilities(schedule: NoiseSchedule, config: TimeSamplingConfig) -> Table:
    """The probability of each time, (T + 1,) float64, of which that of t = 0 is 0.

    The density of the log-SNR lambda (Hang et al. 2024, "Improved noise schedule for diffusion training", section 3.2)
    on the schedule's own times: p(t) is f(lambda_t) |d lambda / dt|, normalised. Uniform times of the cosine schedule
    spend much on the ends, where there is little to learn. Loss weights stay as they are. Raises ValueError when no
    time has a log-SNR near the density.
    """
    probabilities = np.zeros(schedule.steps + 1)
    if config.name == "uniform":
        probabilities[1:] = 1.0 / schedule.steps
        return probabilities
    log_snr = 2.0 * schedule.half_log_snr[1:]
    z = (log_snr - config.mean) / config.scale
    density = np.exp(-0.5 * z * z) if config.name == "normal" else np.exp(-np.abs(z))
    probabilities[1:] = density * np.abs(np.gradient(log_snr))
    if probabilities.sum() == 0.0:
        raise ValueError(
            f"no time has a log-SNR near {config.mean:g}: the schedule's go from {log_snr[-1]:.3g} to {log_snr[0]:.3g}"
        )
    return np.asarray(probabilities / probabilities.sum(), dtype=np.float64)


class TimeSampler:
    """Draws times 1..T by the configured density."""

    def __init__(self, schedule: NoiseSchedule, config: TimeSamplingConfig) -> None:
        self._steps = schedule.steps
        self._uniform = config.name == "uniform"
        self._cumulative = torch.from_numpy(np.cumsum(time_probabilities(schedule, config)))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 on the CPU."""
        if self._uniform:
            return torch.randint(1, self._steps + 1, (count,), generator=generator)
        drawn = torch.rand(count, generator=generator, dtype=torch.float64)
        return torch.searchsorted(self._cumulative, drawn, right=True).clamp(1, self._steps)
