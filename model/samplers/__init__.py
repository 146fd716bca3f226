"""Samplers: each a pure function from schedule and times to a table of coefficients."""

from functools import lru_cache

from model.config import SamplerName, SamplingConfig, ScheduleConfig, VarianceName
from model.samplers.ddim import ddim
from model.samplers.ddpm import ddpm
from model.samplers.dpmpp_2m import dpmpp_2m
from model.samplers.step import StepTable, Times, trailing_times
from model.samplers.unipc import unipc
from model.schedule import NoiseSchedule, make_schedule

__all__ = ["StepTable", "ddim", "ddpm", "dpmpp_2m", "step_table", "tabulate", "trailing_times", "unipc"]


def tabulate(schedule: NoiseSchedule, times: Times, sampling: SamplingConfig) -> StepTable:
    """The table of the sampler that `sampling` names, over the given decreasing times (its `steps` is not used)."""
    if sampling.sampler == "ddpm":
        return ddpm(schedule, times, sampling.variance)
    if sampling.sampler == "ddim":
        return ddim(schedule, times, sampling.eta)
    if sampling.sampler == "dpmpp_2m":
        return dpmpp_2m(schedule, times)
    return unipc(schedule, times)


def step_table(schedule: ScheduleConfig, sampling: SamplingConfig) -> StepTable:
    """The table for trailing times; kept, since requests repeat their settings. Treat it as read-only."""
    return _kept_table(schedule, sampling.sampler, sampling.steps, sampling.eta, sampling.variance)


@lru_cache(maxsize=256)
def _kept_table(
    schedule: ScheduleConfig, sampler: SamplerName, steps: int, eta: float, variance: VarianceName
) -> StepTable:
    sampling = SamplingConfig(sampler=sampler, steps=steps, eta=eta, variance=variance)
    table = tabulate(make_schedule(schedule), trailing_times(schedule.steps, sampling.steps), sampling)
    table.coefficients.setflags(write=False)
    table.times.setflags(write=False)
    return table
