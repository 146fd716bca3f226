"""Every sampler on a Gaussian data distribution, whose mean, covariance and paths are known."""

import math

import numpy as np
import pytest
from scipy import stats

from darkroom.model.config import PredictionName, SamplerName, SamplingConfig, ScheduleConfig, SpacingName
from darkroom.model.diffusion.schedule import NoiseSchedule, cosine_schedule, linear_schedule, make_schedule
from darkroom.model.samplers import StepTable, step_table, tabulate
from darkroom.model.samplers.spacing import spaced_times
from darkroom.model.samplers.step import Times
from darkroom.model.sampling.draw import plan_row, sample
from tests.model.gaussian import Gaussian

DATA = Gaussian(np.array([0.6, -0.3, 0.0, 0.9]), np.array([0.25, 0.5, 1.0, 0.05]))
SAMPLERS = [
    SamplingConfig(sampler="ddpm", variance="beta"),
    SamplingConfig(sampler="ddpm", variance="beta_tilde"),
    SamplingConfig(sampler="ddim", eta=0.0),
    SamplingConfig(sampler="ddim", eta=0.5),
    SamplingConfig(sampler="ddim", eta=1.0),
    SamplingConfig(sampler="dpmpp_2m"),
    SamplingConfig(sampler="dpmpp_3m"),
    SamplingConfig(sampler="unipc"),
    SamplingConfig(sampler="unipc_3"),
    SamplingConfig(sampler="ipndm_2"),
    SamplingConfig(sampler="ipndm_3"),
    SamplingConfig(sampler="ipndm"),
]


def name(sampling: SamplingConfig) -> str:
    return f"{sampling.sampler}-{sampling.variance}-{sampling.eta:g}"


def moment_error(sampling: SamplingConfig, schedule: ScheduleConfig, steps: int) -> float:
    table = step_table(schedule, sampling.model_copy(update={"steps": steps}))
    mean, deviation = DATA.moments(make_schedule(schedule), table)
    return float(max(np.abs(mean - DATA.mean).max(), np.abs(deviation - DATA.deviation).max()))


@pytest.mark.parametrize("sampling", SAMPLERS, ids=name)
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_mean_and_deviation_are_the_datas(sampling: SamplingConfig, schedule: str) -> None:
    config = ScheduleConfig.model_validate({"name": schedule, "steps": 1000})
    error = moment_error(sampling, config, 1000)
    assert error < 0.012, error
    assert error < moment_error(sampling, config, 50)


@pytest.mark.parametrize("sampling", SAMPLERS, ids=name)
def test_the_error_of_the_moments_falls_at_least_in_proportion_to_the_steps(sampling: SamplingConfig) -> None:
    schedule = ScheduleConfig(name="cosine", steps=16_000)
    errors = [moment_error(sampling, schedule, steps) for steps in (125, 250, 500, 1000)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert orders.min() > 0.8, (errors, orders)


def even_times(schedule: NoiseSchedule, steps: int, first: float, last: float) -> Times:
    """Return steps + 1 times whose log(alpha / sigma) rises evenly from `first` to `last`."""
    rising = -schedule.half_log_snr[1:]
    wanted = -np.linspace(first, last, steps + 1)
    return 1 + np.searchsorted(rising, wanted).astype(np.int64)


FINE = {"cosine": cosine_schedule(100_000), "linear": linear_schedule(100_000)}


@pytest.mark.parametrize("schedule", FINE.values(), ids=FINE.keys())
@pytest.mark.parametrize(
    ("sampler", "order"), [("ddim", 1), ("dpmpp_2m", 2), ("dpmpp_3m", 3), ("unipc", 3), ("unipc_3", 4)]
)
def test_deterministic_paths_approach_the_probability_flow_at_the_claimed_order(
    sampler: SamplerName, order: int, schedule: NoiseSchedule
) -> None:
    z = np.random.default_rng(0).standard_normal((16, 4))

    def error(steps: int) -> float:
        times = even_times(
            schedule, steps, -5.0, 3.0
        )  # the first steps, of lower order, lie where the path hardly bends
        table = tabulate(schedule, times, SamplingConfig(sampler=sampler))
        path = DATA.path(schedule, table, DATA.flow(schedule, int(times[0]), z))
        exact = np.stack([DATA.flow(schedule, t, z) for t in times.tolist()])
        return float(np.abs(path - exact).max())

    errors = [error(steps) for steps in (40, 80, 160, 320)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert abs(orders[-1] - order) < 0.25, (errors, orders)
    assert orders.min() > order - 0.5, (errors, orders)


def even_schedule(steps: int) -> NoiseSchedule:
    """Return a schedule whose sigma / alpha rises evenly to 4; the Adams-Bashforth weights are for even steps."""
    alpha_bar = 1.0 / (1.0 + np.linspace(0.0, 4.0, steps + 1) ** 2)
    return NoiseSchedule(np.concatenate([[0.0], 1.0 - alpha_bar[1:] / alpha_bar[:-1]]))


@pytest.mark.parametrize(("sampler", "order"), [("ipndm_2", 2), ("ipndm_3", 3), ("ipndm", 4)])
def test_a_step_of_ipndm_from_exact_directions_has_the_error_of_adams_bashforth(
    sampler: SamplerName, order: int
) -> None:
    """It is proportional to h^(order + 1) for step length h. (From a first-order start, the method has order 2.)"""
    z = np.random.default_rng(0).standard_normal((16, 4))

    def error(steps: int) -> float:
        schedule = even_schedule(steps)
        times = np.arange(steps, -1, -1)
        k = steps // 2
        t = int(times[k])
        points = {s: DATA.flow(schedule, s, z) for s in range(t - 1, t + 4)}
        estimates = {}
        for s, point in points.items():
            slope, intercept = DATA.estimate(schedule, s)
            estimates[s] = slope * point + intercept
        directions = [(points[s] - schedule.alpha[s] * estimates[s]) / schedule.sigma[s] for s in (t + 1, t + 2, t + 3)]
        linear = tabulate(schedule, times, SamplingConfig(sampler=sampler)).linear[k]
        moved = np.tensordot(linear, np.stack([points[t], *directions, estimates[t]]), 1)[0]
        return float(np.abs(moved - points[t - 1]).max())

    errors = [error(steps) for steps in (40, 80, 160, 320)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert abs(orders[-1] - (order + 1)) < 0.25, (errors, orders)


@pytest.mark.parametrize("sampler", ["ipndm_2", "ipndm_3", "ipndm"])
def test_ipndm_approaches_the_probability_flow_at_order_2_on_the_polynomial_grid(sampler: SamplerName) -> None:
    schedule = FINE["cosine"]
    z = np.random.default_rng(0).standard_normal((16, 4))

    def error(steps: int) -> float:
        times = spaced_times(schedule, "edm", steps)[:-1]
        path = DATA.path(
            schedule,
            tabulate(schedule, times, SamplingConfig(sampler=sampler)),
            DATA.flow(schedule, int(times[0]), z),
        )
        return float(np.abs(path - np.stack([DATA.flow(schedule, t, z) for t in times.tolist()])).max())

    errors = [error(steps) for steps in (80, 160, 320)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert orders.min() > 1.75, (errors, orders)


@pytest.mark.parametrize("spacing", ["log_snr", "edm"])
@pytest.mark.parametrize("sampler", ["dpmpp_3m", "unipc_3", "ipndm", "ipndm_3"])
def test_steps_spaced_by_noise_level_are_nearer_to_the_data_than_trailing_ones(
    sampler: SamplerName, spacing: SpacingName
) -> None:
    spaced = SamplingConfig(sampler=sampler, spacing=spacing)
    trailing = moment_error(SamplingConfig(sampler=sampler), ScheduleConfig(), 50)
    assert moment_error(spaced, ScheduleConfig(), 50) < 0.25 * trailing


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "dpmpp_3m", "unipc", "unipc_3", "ipndm"])
def test_deterministic_samplers_use_no_noise(sampler: SamplerName) -> None:
    table = step_table(ScheduleConfig(), SamplingConfig(sampler=sampler, eta=0.0, steps=20))
    assert not table.noise.any()


@pytest.mark.parametrize("sampling", SAMPLERS, ids=name)
def test_no_sampler_moves_a_clean_certain_image(sampling: SamplingConfig) -> None:
    """When every estimate of x_0 is the same image, every sampler ends on that image, without noise."""
    certain = Gaussian(np.array([0.5]), np.array([0.0]))
    for steps in (1, 2, 3, 10):
        table: StepTable = step_table(ScheduleConfig(), sampling.model_copy(update={"steps": steps}))
        mean, deviation = certain.moments(make_schedule(ScheduleConfig()), table)
        assert mean == pytest.approx(0.5, abs=1e-9)
        assert deviation == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("sampling", SAMPLERS, ids=name)
def test_images_drawn_have_the_distribution_of_the_data(sampling: SamplingConfig, prediction: PredictionName) -> None:
    """The test uses `sample`, with start noise and float32; its significance level is 1e-4 for each component."""
    data = Gaussian(np.linspace(-0.8, 0.8, 16), np.linspace(0.1, 0.9, 16))
    schedule = ScheduleConfig(name="linear", steps=1000)
    denoiser = data.denoiser(prediction, schedule, side=4)
    chosen = sampling.model_copy(update={"threshold": "none", "steps": 100})
    count = 1000
    plans = [plan_row(denoiser, chosen, label=0, seed=5, index=index) for index in range(count)]
    images = sample(denoiser, plans, batch_rows=count).flatten(1).double().numpy()

    mean, deviation = data.moments(make_schedule(schedule), step_table(schedule, chosen))
    scores = (images.mean(0) - mean) / (deviation / math.sqrt(count))
    assert np.abs(scores).max() < stats.norm.isf(1e-4)
    ratios = (count - 1) * images.var(0, ddof=1) / deviation**2
    assert stats.chi2.ppf(1e-4, count - 1) < ratios.min()
    assert ratios.max() < stats.chi2.isf(1e-4, count - 1)
    correlation = np.corrcoef(images.T) - np.eye(16)
    assert np.abs(correlation).max() < 5.0 / math.sqrt(count)
    # The sampler's exact moments are themselves near the data's.
    assert np.abs(mean - data.mean).max() < 0.02
    assert np.abs(deviation - data.deviation).max() < 0.05
