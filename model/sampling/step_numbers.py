"""The numbers of each step of a row, rounded to float32 once: requests repeat their settings."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from darkroom.model.config import PredictionName, SamplingConfig, ScheduleConfig
from darkroom.model.diffusion.prediction import x0_coefficients
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.samplers import step_table
from darkroom.model.samplers.step import STATE
from darkroom.model.sampling.guidance import network_rows_left

REAL = (
    *("from_x", "from_output", "guidance", "limit", "dynamic", "level"),
    *("noise", "spread", "time", "to_null", "to_snapshot"),
)
"""Names of the first columns. to_null, to_snapshot: 1 where the step is guided by "no class", or by the snapshot."""

AFFINE = slice(0, 3)
NOISE, SPREAD, TIME, TO_NULL, TO_SNAPSHOT = range(6, len(REAL))

LINEAR = STATE * (STATE + 1)
"""Number of the last columns: the step's linear map (`model/samplers/step.py`)."""

Steps = npt.NDArray[np.float32]
"""(n, len(REAL) + LINEAR)."""


@lru_cache(maxsize=256)
def step_numbers(
    config: ScheduleConfig, prediction: PredictionName, sampling: SamplingConfig, guidance: float
) -> Steps:
    """Return the numbers of all steps of `sampling`, read-only. guidance: the weight of guided steps; 1 for none."""
    table, schedule = step_table(config, sampling), make_schedule(config)
    times, steps = table.times[:-1], len(table.noise)
    from_x, from_output = x0_coefficients(schedule, prediction)
    guided = np.diff(network_rows_left(config, sampling, guidance)) == -2
    by_snapshot = sampling.guide == "snapshot"
    columns: Mapping[str, Any] = {
        "from_x": from_x[times],
        "from_output": from_output[times],
        "guidance": np.where(guided, guidance, 1.0),
        "limit": np.inf if sampling.threshold == "none" else 1.0,
        "dynamic": sampling.threshold == "dynamic",
        "level": sampling.percentile,
        "noise": table.noise,
        "spread": table.spread,
        "time": times,
        "to_null": guided & (not by_snapshot),
        "to_snapshot": guided & by_snapshot,
    }
    numbers = np.empty((steps, len(REAL) + LINEAR), dtype=np.float32)
    for column, name in enumerate(REAL):
        numbers[:, column] = columns[name]
    numbers[:, len(REAL) :] = table.linear.reshape(steps, LINEAR)
    numbers.setflags(write=False)
    return numbers
