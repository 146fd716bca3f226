"""The variational bound against torch's distributions, a closed form, and the likelihood that it bounds."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from darkroom.model.config import EvaluationConfig, SamplingConfig, ScheduleConfig, VarianceName
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser, SamplingStopped
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.diffusion.variational import decoder_term
from darkroom.model.metrics.bound import bits_per_dimension, strata, times_of_image
from darkroom.model.metrics.evaluation import EvaluationError, evaluate
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.sampling.noise import normal_noise
from tests.model.gaussian import Gaussian
from tests.model.small import random_dataset, small_denoiser

SIDE = 4
DATA = Gaussian(np.linspace(-0.2, 0.3, SIDE * SIDE), np.linspace(0.05, 0.15, SIDE * SIDE))


def gaussian_images(count: int, seed: int = 0) -> ImageDataset:
    """Return images of DATA, rounded to pixels."""
    points = np.random.default_rng(seed).normal(DATA.mean, DATA.deviation, (count, SIDE * SIDE))
    pixels = np.clip(np.rint((points + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return ImageDataset(
        pixels.reshape(count, 1, SIDE, SIDE), np.zeros(count, np.int64), ("only",), "sha256:" + "0" * 64
    )


def measured(denoiser: Denoiser, dataset: ImageDataset, variance: VarianceName, times: int | None = None) -> float:
    return bits_per_dimension(
        denoiser, dataset, images=len(dataset), times=times, variance=variance, seed=3, batch_images=50
    )


def one_by_one(denoiser: Denoiser, dataset: ImageDataset, variance: VarianceName) -> float:
    """Compute Ho et al. 2020, equation 5, from torch's distributions, with the betas as the only table."""
    betas = make_schedule(denoiser.config.schedule).beta[1:]
    abar = np.cumprod(1.0 - betas)
    total = 0.0
    for i in range(len(dataset)):
        x0 = torch.from_numpy(dataset.images[i]).double() / 127.5 - 1.0
        label = torch.from_numpy(dataset.labels[i : i + 1])
        for n, beta in enumerate(betas):  # n = t - 1
            t = n + 1
            eps = normal_noise([3], [i], [t], x0.shape, torch.device("cpu"))[0].double()
            x = (abar[n] ** 0.5 * x0 + (1 - abar[n]) ** 0.5 * eps).float()
            with torch.no_grad():
                estimate = (
                    denoiser.estimate(x[None], torch.tensor([t]), label, torch.ones(1))[0][0].double().clamp(-1, 1)
                )
            before = abar[n - 1] if n else 1.0
            to_x0, to_x = before**0.5 * beta / (1 - abar[n]), (1 - beta) ** 0.5 * (1 - before) / (1 - abar[n])
            posterior = beta * (1 - before) / (1 - abar[n])
            if n == 0:
                deviation = (betas[1] * (1 - abar[0]) / (1 - abar[1])) ** 0.5
                mean = (to_x0 * estimate + to_x * x).numpy()
                upper = np.where(dataset.images[i] == 255, np.inf, x0.numpy() + 1 / 255)
                lower = np.where(dataset.images[i] == 0, -np.inf, x0.numpy() - 1 / 255)
                mass = norm.cdf(upper, mean, deviation) - norm.cdf(lower, mean, deviation)
                total -= float(np.log(mass).sum())
            else:
                v = posterior if variance == "beta_tilde" else beta
                theirs = Normal(to_x0 * x0 + to_x * x, torch.tensor(posterior**0.5, dtype=torch.float64))
                ours = Normal(to_x0 * estimate + to_x * x, torch.tensor(v**0.5, dtype=torch.float64))
                total += float(kl_divergence(theirs, ours).sum())
        last = Normal(abar[-1] ** 0.5 * x0, torch.tensor((1 - abar[-1]) ** 0.5, dtype=torch.float64))
        total += float(kl_divergence(last, Normal(torch.zeros_like(x0), torch.ones_like(x0))).sum())
    return total / (len(dataset) * dataset.images[0].size * math.log(2.0))


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("schedule", [ScheduleConfig(steps=20), ScheduleConfig(name="linear", steps=20)])
def test_it_is_the_sum_of_divergences_between_distributions(schedule: ScheduleConfig, variance: VarianceName) -> None:
    dataset, wide = gaussian_images(4), Gaussian(DATA.mean, DATA.deviation + 0.5)
    for denoiser in (DATA.denoiser("eps", schedule, SIDE), wide.denoiser("v", schedule, SIDE)):
        assert measured(denoiser, dataset, variance) == pytest.approx(one_by_one(denoiser, dataset, variance), rel=1e-5)
        dataset.images[0, 0, 0] = (0, 255, 1, 254)  # the second case has the open intervals at both ends


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_terms_of_a_gaussian_have_their_closed_form(variance: VarianceName) -> None:
    """The exact denoiser's squared error at every t gives every term except L_0, which is integrated numerically."""
    schedule = ScheduleConfig(name="linear", steps=40)
    tables, dataset = make_schedule(schedule), gaussian_images(1500)
    x0 = dataset.images.reshape(len(dataset), -1) / 127.5 - 1.0
    nats = 0.5 * (tables.alpha_bar[-1] * (x0**2 - 1) - np.log1p(-tables.alpha_bar[-1]))
    points, weights = np.polynomial.hermite_e.hermegauss(20)
    for t in range(1, 41):
        slope, intercept = DATA.estimate(tables, t)
        alpha, sigma = tables.alpha[t], tables.sigma[t]
        if t == 1:
            abar, before = tables.alpha_bar[2], tables.alpha_bar[1]
            deviation = math.sqrt(tables.beta[2] * (1 - before) / (1 - abar))
            for point, weight in zip(points, weights / weights.sum(), strict=True):
                mean = slope * (alpha * x0 + sigma * point) + intercept
                high, low = (x0 + 1 / 255 - mean) / deviation, (x0 - 1 / 255 - mean) / deviation
                right, left = (np.abs(np.diff(tail([low, high]), axis=0))[0] for tail in (norm.sf, norm.cdf))
                nats -= weight * np.log(np.where(low > 0, right, left))
            continue
        squared = (x0 - slope * alpha * x0 - intercept) ** 2 + (slope * sigma) ** 2
        abar, before = tables.alpha_bar[t], tables.alpha_bar[t - 1]
        posterior = tables.beta[t] * (1 - before) / (1 - abar)
        v = posterior if variance == "beta_tilde" else tables.beta[t]
        factor = before * tables.beta[t] ** 2 / (1 - abar) ** 2
        nats += 0.5 * (np.log(v / posterior) + posterior / v - 1 + factor * squared / v)
    expected = nats.mean() / math.log(2.0)
    found = measured(DATA.denoiser("v", schedule, SIDE), dataset, variance)
    assert found == pytest.approx(expected, rel=0.01)


def test_it_lies_above_the_likelihood_and_nears_it_with_more_steps() -> None:
    dataset = gaussian_images(300)
    x0 = dataset.images.reshape(len(dataset), -1) / 127.5 - 1.0
    high, low = ((x0 + d - DATA.mean) / DATA.deviation for d in (1 / 255, -1 / 255))
    exact = -np.log2(norm.cdf(high) - norm.cdf(low)).mean()
    found = {
        variance: [
            measured(DATA.denoiser("v", ScheduleConfig(steps=steps), SIDE), dataset, variance) for steps in (30, 300)
        ]
        for variance in get_args(VarianceName)[:2]
    }
    assert exact < min(map(min, found.values()))
    few, many = found["beta"]
    assert many - exact < 0.4 * (few - exact)


def _masses(mean: float, deviation: float) -> npt.NDArray[np.float64]:
    grid = torch.arange(256, dtype=torch.float64).reshape(256, 1, 1, 1) / 127.5 - 1.0
    masses: npt.NDArray[np.float64] = torch.exp(-decoder_term(grid, torch.full_like(grid, mean), deviation)).numpy()
    return masses


@given(st.floats(-1.5, 1.5), st.floats(1e-3, 2.0))
def test_the_masses_of_all_pixel_values_are_one(mean: float, deviation: float) -> None:
    assert _masses(mean, deviation).sum() == pytest.approx(1.0, rel=1e-9)


def test_a_mass_too_small_for_a_float_has_a_finite_logarithm() -> None:
    x0, mean = torch.full((2, 1, 1, 1), 0.0, dtype=torch.float64), torch.tensor([-1.0, 1.0]).double()
    terms = decoder_term(x0 + 1 / 255, mean.reshape(2, 1, 1, 1), 1e-3)
    edges = (1.0, 1.0 - 2 / 255)  # the distance from the mean to the nearer edge of the interval
    for term, edge in zip(terms.tolist(), edges, strict=True):
        assert term == pytest.approx(-norm.logsf(edge / 1e-3), rel=1e-6)


@given(st.integers(2, 1000), st.data())
@settings(deadline=None)
def test_strata_divide_all_times_but_the_first(steps: int, data: st.DataObject) -> None:
    times = data.draw(st.integers(2, steps))
    bounds = strata(steps, times)
    assert (bounds[0], bounds[-1], len(bounds)) == (2, steps + 1, times)
    assert (np.diff(bounds) >= 1).all()


def test_a_part_of_the_times_estimates_the_sum_without_bias() -> None:
    values = 1.0 / np.arange(1, 101)
    sums = []
    for image in range(4000):
        t, weight = times_of_image(100, 8, 0, image)
        assert t[0] == 1
        assert len(set(t)) == 8
        sums.append((weight * values[t - 1]).sum())
    assert abs(np.mean(sums) - values.sum()) < 4 * np.std(sums) / len(sums) ** 0.5
    assert np.std(sums) < 0.3 * values.sum()


def test_with_as_many_strata_as_times_it_is_the_whole_bound() -> None:
    denoiser, dataset = DATA.denoiser("v", ScheduleConfig(steps=12), SIDE), gaussian_images(5)
    assert measured(denoiser, dataset, "beta", times=12) == pytest.approx(
        measured(denoiser, dataset, "beta"), rel=1e-12
    )


def test_each_image_is_judged_under_its_own_class() -> None:
    dataset, seen = random_dataset(6), []
    small = small_denoiser()

    def watching(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.extend(labels.tolist())
        return small.network(x, t, labels)

    denoiser = Denoiser(small.config, small.class_names, watching)
    bits_per_dimension(denoiser, dataset, images=6, times=2, variance="beta", seed=0, batch_images=4)
    assert seen == np.repeat(dataset.labels, 2).tolist()


def test_as_a_metric_it_comes_with_its_protocol_and_stops(tmp_path: Path) -> None:
    config = EvaluationConfig(every_images=1, metrics=("bits_per_dimension",), bound_images=4, bound_times=5)
    references = FolderReferences(tmp_path)
    arguments = (small_denoiser(), "sha256:0", random_dataset(), config, SamplingConfig(), references)
    first, again = (evaluate(*arguments)[0] for _ in range(2))
    assert first.metric == "bits-per-dimension"
    assert first.value == again.value > 0.0
    assert first.protocol["times"] == 5
    assert first.protocol["images"] == 4
    assert "sampler" not in first.protocol  # no image is drawn
    answers: Iterator[bool] = iter([True])
    with pytest.raises(SamplingStopped):
        evaluate(*arguments, lambda: next(answers))
    broken = Denoiser(small_denoiser().config, small_denoiser().class_names, lambda x, t, labels: x * torch.nan)
    with pytest.raises(EvaluationError, match="sha256:0"):
        evaluate(broken, *arguments[1:])
    with pytest.raises(EvaluationError, match="times must be between"):
        evaluate(*arguments[:3], config.model_copy(update={"bound_times": 2000}), *arguments[4:])
