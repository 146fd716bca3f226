"""Drawing the times of a training batch."""

import numpy as np
import torch
from torch import Tensor

from darkroom.model.config import TimeSamplingConfig
from darkroom.model.diffusion.schedule import NoiseSchedule, Table


def time_probabilities(schedule: NoiseSchedule, config: TimeSamplingConfig) -> Table:
    """Return the probability of each time, (T + 1,) float64; that of t = 0 is 0.

    A density f of the log-SNR lambda (Hang et al. 2024, "Improved noise schedule for diffusion training", section 3.2)
    gives the schedule's times the probabilities p(t) = f(lambda_t) |d lambda / dt|, normalised. Uniform times of the
    cosine schedule often fall at both ends, where there is little to learn. Loss weights do not change.
    Raises ValueError when no time has a log-SNR near the density.
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
            f"no time has a log-SNR near {config.mean:g}: those of the schedule are {log_snr[-1]:.3g} to "
            f"{log_snr[0]:.3g}"
        )
    return np.asarray(probabilities / probabilities.sum(), dtype=np.float64)


class TimeSampler:
    """Draws times 1..T from the configured density."""

    def __init__(self, schedule: NoiseSchedule, config: TimeSamplingConfig) -> None:
        self._steps = schedule.steps
        self._uniform = config.name == "uniform"
        self._cumulative = torch.from_numpy(np.cumsum(time_probabilities(schedule, config)))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw `count` times, (count,) int64 on the CPU."""
        if self._uniform:
            return torch.randint(1, self._steps + 1, (count,), generator=generator)
        drawn = torch.rand(count, generator=generator, dtype=torch.float64)
        return torch.searchsorted(self._cumulative, drawn, right=True).clamp(1, self._steps)
