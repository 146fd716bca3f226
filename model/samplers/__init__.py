"""Samplers: each a pure function from schedule and times to a table of linear maps."""

from functools import lru_cache

from model.config import SamplerName, SamplingConfig, ScheduleConfig, SpacingName, VarianceName
from model.samplers.ddim import ddim
from model.samplers.ddpm import ddpm
from model.samplers.dpmpp import dpmpp
from model.samplers.ipndm import ipndm
from model.samplers.spacing import spaced_times
from model.samplers.step import StepTable, Times
from model.samplers.unipc import unipc
from model.schedule import NoiseSchedule, make_schedule

__all__ = ["StepTable", "step_table", "tabulate"]


def tabulate(schedule: NoiseSchedule, times: Times, sampling: SamplingConfig) -> StepTable:
    """The table of the sampler that `sampling` names, over the given decreasing times (its `steps` is not used)."""
    match sampling.sampler:
        case "ddpm":
            return ddpm(schedule, times, sampling.variance)
        case "ddim":
            return ddim(schedule, times, sampling.eta)
        case "dpmpp_2m" | "dpmpp_3m":
            return dpmpp(schedule, times, order=2 if sampling.sampler == "dpmpp_2m" else 3)
        case "unipc" | "unipc_3":
            return unipc(schedule, times, order=2 if sampling.sampler == "unipc" else 3)
        case "ipndm" | "ipndm_3" | "ipndm_2":
            return ipndm(schedule, times, order={"ipndm": 4, "ipndm_3": 3, "ipndm_2": 2}[sampling.sampler])


def step_table(schedule: ScheduleConfig, sampling: SamplingConfig) -> StepTable:
    """The table of a whole run; kept, since requests repeat their settings. Treat it as read-only.

    Raises ValueError when the spacing does not have so many steps.
    """
    return _kept_table(schedule, sampling.sampler, sampling.steps, sampling.spacing, sampling.eta, sampling.variance)


@lru_cache(maxsize=256)
def _kept_table(
    config: ScheduleConfig, sampler: SamplerName, steps: int, spacing: SpacingName, eta: float, variance: VarianceName
) -> StepTable:
    schedule = make_schedule(config)
    sampling = SamplingConfig(sampler=sampler, eta=eta, variance=variance)
    table = tabulate(schedule, spaced_times(schedule, spacing, steps), sampling)
    for values in (table.times, table.linear, table.noise, table.spread):
        values.setflags(write=False)
    return table
