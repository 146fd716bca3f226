"""The exponential moving average (EMA) of the weights, which sampling and evaluation use."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from darkroom.model.config import EMAConfig


def power_exponent(relative_length: float) -> float:
    """Return gamma of the power profile whose standard deviation is `relative_length` (Karras et al. 2024, equation 3).

    relative_length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), relative to the length of the run. Below 0.28 exactly
    one root is not negative.
    """
    inverse = relative_length**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


class ExponentialMovingAverage:
    """theta_ema = rho theta_ema + (1 - rho) theta, in float32, after every iteration n.

    `copy` warm-up: a copy of the weights through iteration `warmup_iterations`, then rho = `decay`. `ramp`: rho grows
    as (1 + n) / (10 + n) up to `decay`, for runs too short for a copy phase. `power`: rho = (1 - 1/n)^(gamma + 1), so
    that iteration m has a weight proportional to m^gamma (Karras et al. 2024, equations 1 and 2).
    """

    def __init__(self, network: nn.Module, config: EMAConfig) -> None:
        self.config = config
        self._gamma = power_exponent(config.relative_length)
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def decay_at(self, iteration: int) -> float:
        """Return rho for the update after the `iteration`-th iteration, counted from 1."""
        if self.config.warmup == "copy":
            return 0.0 if iteration <= self.config.warmup_iterations else self.config.decay
        if self.config.warmup == "power":
            return float((1.0 - 1.0 / iteration) ** (self._gamma + 1.0))
        return min(self.config.decay, (1.0 + iteration) / (10.0 + iteration))

    @torch.no_grad()
    def update(self, network: nn.Module, iteration: int) -> None:
        """Update the average with the weights after the `iteration`-th iteration, counted from 1."""
        rho = self.decay_at(iteration)
        current = network.state_dict()
        if rho == 0.0:
            self.load(current)
            return
        torch._foreach_lerp_(list(self.weights.values()), [current[name] for name in self.weights], 1.0 - rho)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the average by a copy of the given weights."""
        torch._foreach_copy_(list(self.weights.values()), [weights[name] for name in self.weights])
