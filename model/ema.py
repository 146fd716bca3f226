"""The exponential moving average of the weights, which samples and metrics use."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.config import EMAConfig


class ExponentialMovingAverage:
    """theta_ema = rho theta_ema + (1 - rho) theta, in float32, after every iteration.

    `copy` warm-up: a copy of the model through iteration `warmup_iterations` (2000 in the paper). `ramp`: rho grows
    as (1 + n) / (10 + n) up to `decay`, for runs too short for a copy phase.
    """

    def __init__(self, network: nn.Module, config: EMAConfig) -> None:
        self.config = config
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def decay_at(self, iteration: int) -> float:
        """rho for the update after the `iteration`-th iteration, counted from 1."""
        if self.config.warmup == "copy":
            return 0.0 if iteration <= self.config.warmup_iterations else self.config.decay
        return min(self.config.decay, (1.0 + iteration) / (10.0 + iteration))

    @torch.no_grad()
    def update(self, network: nn.Module, iteration: int) -> None:
        """Take in the weights after the `iteration`-th iteration, counted from 1."""
        rho = self.decay_at(iteration)
        current = network.state_dict()
        if rho == 0.0:
            self.load(current)
            return
        for name, value in self.weights.items():
            value.lerp_(current[name], 1.0 - rho)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over a copy of the given weights."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
