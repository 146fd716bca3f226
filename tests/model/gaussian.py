"""A Gaussian data distribution N(mu, diag(s^2)), whose closed forms are the samplers' oracle.

x_t is N(alpha mu, alpha^2 s^2 + sigma^2). This gives the best estimate of x_0, the probability-flow ODE, and the
moments of a linear sampler's images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from darkroom.model.config import ModelConfig, PredictionName, ScheduleConfig, UNetConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.prediction import from_x0
from darkroom.model.diffusion.schedule import NoiseSchedule, make_schedule
from darkroom.model.samplers import StepTable
from darkroom.model.samplers.step import STATE

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """The data distribution. mean, deviation: (D,), of its independent components."""

    mean: Vector
    deviation: Vector

    def spread(self, schedule: NoiseSchedule, t: int) -> Vector:
        """Return the standard deviation of x_t, (D,)."""
        variance: Vector = schedule.alpha[t] ** 2 * self.deviation**2 + schedule.sigma[t] ** 2
        return np.asarray(np.sqrt(variance))

    def estimate(self, schedule: NoiseSchedule, t: int) -> tuple[Vector, Vector]:
        """Return (slope, intercept) of E[x_0 | x_t] = slope x_t + intercept."""
        slope = schedule.alpha[t] * self.deviation**2 / self.spread(schedule, t) ** 2
        return slope, self.mean * (1.0 - schedule.alpha[t] * slope)

    def flow(self, schedule: NoiseSchedule, t: int, z: Vector) -> Vector:
        """Return the points (N, D) at t on the probability-flow ODE's paths with standardised positions z."""
        return schedule.alpha[t] * self.mean + self.spread(schedule, t) * z

    def path(self, schedule: NoiseSchedule, table: StepTable, x: Vector) -> Vector:
        """Return all points (steps + 1, N, D) of a sampler without noise."""
        state = np.zeros((STATE, *x.shape))
        state[0] = x
        points = [x]
        for k, linear in enumerate(table.linear):
            slope, intercept = self.estimate(schedule, int(table.times[k]))
            m = slope * state[0] + intercept
            state = np.tensordot(linear, np.stack([*state, m]), 1)
            points.append(state[0])
        return np.stack(points)

    def moments(self, schedule: NoiseSchedule, table: StepTable) -> tuple[Vector, Vector]:
        """Return mean and standard deviation, (D,) each, of a sampler's images from standard normal start noise.

        The sampler is linear in its state, so the propagation is exact.
        """
        size = len(self.mean)
        mean, covariance = np.zeros((size, STATE)), np.zeros((size, STATE, STATE))
        covariance[:, 0, 0] = 1.0
        for k, (linear, noise) in enumerate(zip(table.linear, table.noise.tolist(), strict=True)):
            slope, intercept = self.estimate(schedule, int(table.times[k]))
            step = np.tile(linear[:, :STATE], (size, 1, 1))
            step[:, :, 0] += slope[:, None] * linear[:, STATE]
            mean = np.einsum("dij,dj->di", step, mean) + intercept[:, None] * linear[:, STATE]
            covariance = np.einsum("dij,djk,dlk->dil", step, covariance, step)
            covariance[:, 0, 0] += noise**2
        return mean[:, 0], np.sqrt(covariance[:, 0, 0])

    def denoiser(self, prediction: PredictionName, schedule: ScheduleConfig, side: int) -> Denoiser:
        """Return the exact denoiser for D = side * side, whose network predicts `prediction`."""
        tables = make_schedule(schedule)
        slopes, intercepts = zip(*[self.estimate(tables, t) for t in range(tables.steps + 1)], strict=True)
        slope, intercept = torch.tensor(np.stack(slopes)), torch.tensor(np.stack(intercepts))

        def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            x0 = slope[t].reshape(x.shape) * x.double() + intercept[t].reshape(x.shape)
            return from_x0(tables, prediction, x.double(), x0, t)

        unet = UNetConfig(
            width=4,
            multipliers=(1,),
            attention_resolutions=(),
            norm_groups=1,
            attention_head_channels=1,
        )
        config = ModelConfig(schedule=schedule, prediction=prediction, image_channels=1, image_size=side, unet=unet)
        return Denoiser(config, ("only",), network)
