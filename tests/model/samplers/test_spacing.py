"""Spacings: the times at which samplers evaluate the network."""

import numpy as np
import pytest

from darkroom.model.config import ScheduleConfig, SpacingName
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.samplers.spacing import (
    COARSE_LOWEST,
    COARSE_RHO,
    HIGHEST,
    LOWEST,
    RHO,
    spaced_times,
    trailing_times,
)

BY_LEVEL = ["log_snr", "edm", "edm_coarse"]


@pytest.mark.parametrize("steps", [1, 7, 50, 999, 1000])
def test_trailing_times_use_the_noisiest_time_and_end_clean(steps: int) -> None:
    times = trailing_times(1000, steps)
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (1000, 0)
    assert (np.diff(times) < 0).all()
    assert np.abs(np.diff(times) + 1000 / steps).max() <= 1.0


@pytest.mark.parametrize("steps", [0, 1001])
def test_more_steps_than_the_schedule_has_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 1000"):
        trailing_times(1000, steps)


@pytest.mark.parametrize("config", [ScheduleConfig(), ScheduleConfig(name="linear"), ScheduleConfig(steps=20)], ids=str)
@pytest.mark.parametrize("spacing", BY_LEVEL)
def test_times_by_noise_level_are_different_and_end_clean_for_every_possible_count(
    config: ScheduleConfig, spacing: SpacingName
) -> None:
    schedule = make_schedule(config)
    most = int(spaced_times(schedule, spacing, 1)[0])
    for steps in {*range(1, min(most, 30) + 1), most // 2, most - 1, most}:
        times = spaced_times(schedule, spacing, steps)
        assert len(times) == steps + 1
        assert (times[0], times[-1]) == (most, 0)
        assert (np.diff(times) < 0).all()
    for steps in (0, most + 1):
        wanted = f"between 1 and {most} with spacing {spacing}.*trailing takes up to {schedule.steps}"
        with pytest.raises(ValueError, match=wanted):
            spaced_times(schedule, spacing, steps)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("spacing", BY_LEVEL)
def test_the_levels_are_those_of_the_formula(name: str, spacing: SpacingName) -> None:
    """The schedule is so fine that rounding to its times has no effect."""
    schedule = make_schedule(ScheduleConfig.model_validate({"name": name, "steps": 200_000}))
    levels = (schedule.sigma / schedule.alpha)[spaced_times(schedule, spacing, 10)[:-1]]
    if spacing == "log_snr":
        wanted = HIGHEST * (LOWEST / HIGHEST) ** (np.arange(10) / 10)
    else:
        lowest, rho, intervals = (LOWEST, RHO, 10) if spacing == "edm" else (COARSE_LOWEST, COARSE_RHO, 9)
        high, low = HIGHEST ** (1 / rho), lowest ** (1 / rho)
        wanted = (high + np.arange(10) / intervals * (low - high)) ** rho
    np.testing.assert_allclose(levels, wanted, rtol=0.05)


def test_a_schedule_that_ends_below_the_highest_level_is_begun_at_its_end() -> None:
    schedule = make_schedule(ScheduleConfig(name="linear", steps=2))
    assert schedule.sigma[-1] / schedule.alpha[-1] < HIGHEST
    assert spaced_times(schedule, "edm", 1).tolist() == [2, 0]
