"""The form that every sampler takes here: a table of linear coefficients, one row a step.

All of the samplers are linear multistep methods in the estimate of x_0, so a step from t_k to t_{k+1} is

    corrected = C . (x, previous, m, h1, h2)
    x'        = A . (corrected, m, h1, h2) + noise * z

where x is the current point, `previous` the corrected point of the step before, m the (thresholded) estimate of x_0
at x, and h1, h2 the estimates one and two steps before. C is (1, 0, 0, 0, 0) for samplers without a corrector. Hence
rows of different samplers, step counts and positions advance together in a few tensor operations, and a sampler is a
pure function of schedule and times.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CORRECT = 5
ADVANCE = 4
NOISE = CORRECT + ADVANCE
WIDTH = NOISE + 1

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StepTable:
    """times: (n + 1,) decreasing, the last is where the sampler ends; coefficients: (n, WIDTH) float64."""

    times: Times
    coefficients: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, times: Times) -> "StepTable":
        """A table of steps that do not correct and have everything else still to be filled in."""
        coefficients = np.zeros((len(times) - 1, WIDTH))
        coefficients[:, 0] = 1.0
        return cls(times, coefficients)

    def set_correct(self, k: int, x: float, previous: float, m: float, h1: float, h2: float) -> None:
        """Coefficients of step k's corrector."""
        self.coefficients[k, :CORRECT] = x, previous, m, h1, h2

    def set_advance(self, k: int, x: float, m: float, h1: float = 0.0, h2: float = 0.0, noise: float = 0.0) -> None:
        """Coefficients of step k's move to the next time, and the standard deviation of its noise."""
        self.coefficients[k, CORRECT:] = x, m, h1, h2, noise


def trailing_times(schedule_steps: int, steps: int) -> Times:
    """`steps` + 1 times from T down to 0, evenly spaced so that T itself is always used (Lin et al. 2024, table 2)."""
    if not 1 <= steps <= schedule_steps:
        raise ValueError(f"steps must be between 1 and {schedule_steps}, not {steps}")
    return np.round(schedule_steps * np.arange(steps, -1, -1) / steps).astype(np.int64)
