"""The forward process and the true posterior, from simulated chains."""

import numpy as np
import pytest
import torch

from darkroom.model.config import ScheduleConfig, ScheduleName
from darkroom.model.diffusion.forward import add_noise, posterior_coefficients
from darkroom.model.diffusion.schedule import make_schedule


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_closed_form_is_the_chain_of_single_steps(name: ScheduleName) -> None:
    """The chain is x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) z (Ho et al. 2020, equation 2), step by step."""
    schedule = make_schedule(ScheduleConfig(name=name, steps=20))
    draw = np.random.default_rng(0)
    count, x0 = 200_000, 0.7
    x = np.full(count, x0)
    for t in range(1, 21):
        x = np.sqrt(1 - schedule.beta[t]) * x + np.sqrt(schedule.beta[t]) * draw.standard_normal(count)
        assert x.mean() == pytest.approx(schedule.alpha[t] * x0, abs=5 / count**0.5)
        assert x.var() == pytest.approx(schedule.sigma[t] ** 2, rel=5 * (2 / count) ** 0.5)


def test_add_noise_takes_each_rows_own_time() -> None:
    schedule = make_schedule(ScheduleConfig())
    x0, eps = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    t = torch.tensor([0, 1, 500, 1000])
    x = add_noise(schedule, x0, t, eps)
    assert torch.equal(x[0], x0[0])
    for row in range(4):
        expected = schedule.alpha[t[row]] * x0[row].double() + schedule.sigma[t[row]] * eps[row].double()
        torch.testing.assert_close(x[row].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("t", "s"), [(2, 1), (10, 9), (19, 18), (10, 4), (20, 10), (15, 1)])
def test_posterior_is_what_simulated_chains_show(t: int, s: int) -> None:
    """A regression of x_s on (x_0, x_t) gives the posterior: slopes its mean, residual its variance (equations 6-7)."""
    schedule = make_schedule(ScheduleConfig(name="linear", steps=20))
    draw = np.random.default_rng(t * 100 + s)
    count = 400_000
    x0 = draw.uniform(
        -1.0, 1.0, count
    )  # not Gaussian, since the posterior given x_0 does not depend on the data's distribution
    x, kept = x0, {0: x0}
    for time in range(1, t + 1):
        x = np.sqrt(1 - schedule.beta[time]) * x + np.sqrt(schedule.beta[time]) * draw.standard_normal(count)
        kept[time] = x
    inputs = np.stack([kept[0], kept[t]], axis=1)
    slopes, residual, _, _ = np.linalg.lstsq(inputs, kept[s], rcond=None)
    variance = float(residual[0]) / (count - 2)
    a, b, v = posterior_coefficients(schedule, t, s)
    spread = np.sqrt(variance * np.diag(np.linalg.inv(inputs.T @ inputs)))
    assert np.abs((slopes - [a, b]) / spread).max() < 4.5
    assert v == pytest.approx(variance, rel=5 * (2 / count) ** 0.5)


def test_posterior_of_one_step_is_equation_7() -> None:
    schedule = make_schedule(ScheduleConfig())
    beta, abar = schedule.beta, schedule.alpha_bar
    for t in (2, 3, 400, 999, 1000):
        a, b, v = posterior_coefficients(schedule, t, t - 1)
        assert a == pytest.approx(abar[t - 1] ** 0.5 * beta[t] / (1 - abar[t]), rel=1e-6)
        assert b == pytest.approx((1 - beta[t]) ** 0.5 * (1 - abar[t - 1]) / (1 - abar[t]), rel=1e-6)
        assert v == pytest.approx((1 - abar[t - 1]) / (1 - abar[t]) * beta[t], rel=1e-6)


def test_posterior_of_the_last_step_is_x0() -> None:
    assert posterior_coefficients(make_schedule(ScheduleConfig()), 1, 0) == pytest.approx((1.0, 0.0, 0.0))
