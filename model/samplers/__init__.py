"""Samplers: pure functions from schedule and times to a table of linear maps."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from darkroom.model.config import SamplerName, SamplingConfig, ScheduleConfig, SpacingName
from darkroom.model.diffusion.schedule import NoiseSchedule, make_schedule
from darkroom.model.extension_points import SAMPLERS, load
from darkroom.model.samplers.spacing import spaced_times
from darkroom.model.samplers.step import StepTable, Times

__all__ = ["StepTable", "step_table", "tabulate"]


def tabulate(schedule: NoiseSchedule, times: Times, sampling: SamplingConfig) -> StepTable:
    """Return the table of the sampler that `sampling` names, over the given decreasing times; ignores its `steps`."""
    return _table(schedule, times, sampling.sampler, dict(_taken(sampling)))


def step_table(schedule: ScheduleConfig, sampling: SamplingConfig) -> StepTable:
    """Return the table of all steps of `sampling`, read-only, from a cache because requests repeat their settings.

    Raises ValueError when the spacing does not have that many steps.
    """
    return _kept_table(schedule, sampling.sampler, sampling.steps, sampling.spacing, _taken(sampling))


@lru_cache(maxsize=256)
def _kept_table(
    config: ScheduleConfig, sampler: SamplerName, steps: int, spacing: SpacingName, taken: tuple[tuple[str, Any], ...]
) -> StepTable:
    schedule = make_schedule(config)
    table = _table(schedule, spaced_times(schedule, spacing, steps), sampler, dict(taken))
    for values in (table.times, table.linear, table.noise, table.spread):
        values.setflags(write=False)
    return table


def _taken(sampling: SamplingConfig) -> tuple[tuple[str, Any], ...]:
    """Return the settings that the sampler takes."""
    return tuple((name, getattr(sampling, name)) for name in SAMPLERS[sampling.sampler].takes)


def _table(schedule: NoiseSchedule, times: Times, sampler: SamplerName, taken: Mapping[str, Any]) -> StepTable:
    entry = SAMPLERS[sampler]
    table: StepTable = load(entry.table)(schedule, times, **entry.fixed, **taken)
    return table
