"""Noise schedules against their published formulas."""

import math

import numpy as np
import pytest

from darkroom.model.config import ScheduleConfig, ScheduleName
from darkroom.model.diffusion.schedule import cosine_schedule, linear_schedule, make_schedule

TABLES = ["beta", "alpha_bar", "alpha", "sigma", "half_log_snr", "snr"]


def test_cosine_formula_up_to_the_clip() -> None:
    schedule = cosine_schedule(1000)
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    for t in (1, 10, 500, 900, 990):
        assert schedule.alpha_bar[t] == pytest.approx(f[t] / f[0], rel=1e-9)
        assert schedule.beta[t] == pytest.approx(1 - f[t] / f[t - 1], rel=1e-9)
    assert schedule.beta[1000] == 0.999  # the formula without the clip gives 1
    assert schedule.beta.max() == 0.999
    assert 1 / schedule.alpha[1000] == pytest.approx(20_000, rel=0.05)


def test_linear_end_points_are_those_of_ddpm() -> None:
    schedule = linear_schedule(1000)
    assert schedule.beta[1] == pytest.approx(1e-4)
    assert schedule.beta[1000] == pytest.approx(0.02)
    assert np.diff(schedule.beta[1:]) == pytest.approx((0.02 - 1e-4) / 999)
    assert schedule.alpha_bar[1000] == pytest.approx(4.0358e-5, rel=1e-3)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [2, 10, 1000, 4000])
def test_laws_of_every_schedule(name: ScheduleName, steps: int) -> None:
    schedule = make_schedule(ScheduleConfig(name=name, steps=steps))
    assert schedule.steps == steps
    for table in TABLES:
        values = getattr(schedule, table)
        assert values.shape == (steps + 1,)
        assert values.dtype == np.float64
    assert schedule.beta[0] == 0.0
    assert schedule.alpha_bar[0] == 1.0
    assert ((schedule.beta[1:] > 0) & (schedule.beta[1:] <= 0.999)).all()
    assert (np.diff(schedule.alpha_bar) < 0).all()
    assert schedule.alpha_bar[1:] / schedule.alpha_bar[:-1] == pytest.approx(1 - schedule.beta[1:])
    assert schedule.alpha**2 + schedule.sigma**2 == pytest.approx(1.0)
    assert schedule.snr[1:] == pytest.approx(np.exp(2 * schedule.half_log_snr[1:]))
    assert np.isposinf(schedule.snr[0])
    assert np.isposinf(schedule.half_log_snr[0])


@pytest.mark.parametrize("table", TABLES)
def test_tables_cannot_be_written(table: str) -> None:
    schedule = make_schedule(ScheduleConfig())
    with pytest.raises(ValueError, match="read-only"):
        getattr(schedule, table)[1] = 0.5
    with pytest.raises(AttributeError):
        setattr(schedule, table, np.zeros(3))


def test_the_linear_schedule_keeps_its_total_noise_when_steps_change() -> None:
    ends = [linear_schedule(steps).half_log_snr[-1] for steps in (1000, 4000, 16_000)]
    assert ends == pytest.approx([ends[0]] * 3, rel=0.02)
