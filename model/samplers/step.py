"""The form that every sampler takes here: a table of linear maps, one a step.

All of the samplers are linear multistep methods, so a step from t_k to t_{k+1} is

    (x', memory') = L (x, memory, m) + (noise z, 0)

where x is the current point, m the (thresholded) estimate of x_0 at x, and memory three images that a method carries
from step to step: earlier estimates, earlier directions, or sums of these. L has 4 x 5 numbers. Hence rows of
different samplers, step counts and positions advance together in one batched matrix product, and a sampler is a pure
function of schedule and times.

A sampler writes its formulas in the unit vectors X, MEMORY and M; `2.0 * X - M` is a row of L.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MEMORIES = 3
STATE = 1 + MEMORIES
"""Images of state that a row carries: its point and the memory."""

Combination = npt.NDArray[np.float64]
"""(STATE + 1,): coefficients of x, the three memories and m."""

X, *MEMORY, M = np.eye(STATE + 1)

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StepTable:
    """times: (n + 1,) decreasing, the last is where the sampler ends.

    linear: (n, STATE, STATE + 1) float64, L of each step; noise: (n,) float64, the standard deviation of its noise.
    spread: (n,) float64; where the model has learned variances and they are used, a pixel's standard deviation is
    noise * exp(spread * f) with the fraction f that the network tells of it, and elsewhere spread is 0.
    """

    times: Times
    linear: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, times: Times) -> "StepTable":
        """A table whose steps are still to be filled in."""
        steps = len(times) - 1
        return cls(times, np.zeros((steps, STATE, STATE + 1)), np.zeros(steps), np.zeros(steps))

    def set_step(self, k: int, x: Combination, *memory: Combination, noise: float = 0.0, spread: float = 0.0) -> None:
        """Step k: where the point goes, what is remembered (a memory that is not given becomes 0), and its noise."""
        for place, combination in enumerate((x, *memory)):
            self.linear[k, place] = combination
        self.noise[k], self.spread[k] = noise, spread
