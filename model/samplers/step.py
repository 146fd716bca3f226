"""The form of every sampler here: a table of linear maps, one for each step.

All samplers are linear multistep methods, so a step from t_k to t_{k+1} is

    (x', memory') = L (x, memory, m) + (noise z, 0)

where x is the current point, m the (thresholded) estimate of x_0 at x, and memory three images that a method carries
from step to step: earlier estimates, earlier directions, or sums of these. L has 4 x 5 numbers. Rows with different
samplers, step counts and positions can therefore advance together in one batched matrix product.

A sampler writes its formulas in the unit vectors X, MEMORY and M; `2.0 * X - M` is one line of L.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

MEMORIES = 3
STATE = 1 + MEMORIES
"""Number of images in a row's state: its point and the memory."""

Combination = npt.NDArray[np.float64]
"""(STATE + 1,): coefficients of x, the three memories and m."""

X, *MEMORY, M = np.eye(STATE + 1)

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StepTable:
    """The n steps of a sampler.

    times: (n + 1,) decreasing; the last is where the sampler ends.
    linear: (n, STATE, STATE + 1) float64, L of each step.
    noise: (n,) float64, the standard deviation of each step's noise.
    spread: (n,) float64. With learned variances, a pixel's standard deviation is noise * exp(spread * f), where f is
    the fraction that the network predicts for it. Otherwise spread is 0.
    """

    times: Times
    linear: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, times: Times) -> "StepTable":
        """Return a table of zeros, which `set_step` fills in."""
        steps = len(times) - 1
        return cls(times, np.zeros((steps, STATE, STATE + 1)), np.zeros(steps), np.zeros(steps))

    @cached_property
    def uses_memory(self) -> bool:
        """True when a step reads or writes the memory, which is zero otherwise."""
        return bool(self.linear[:, 1:].any() or self.linear[:, :, 1:STATE].any())

    def set_step(self, k: int, x: Combination, *memory: Combination, noise: float = 0.0, spread: float = 0.0) -> None:
        """Set step k: its new point, its new memory (an image that is not given becomes 0), and its noise."""
        for place, combination in enumerate((x, *memory)):
            self.linear[k, place] = combination
        self.noise[k], self.spread[k] = noise, spread
