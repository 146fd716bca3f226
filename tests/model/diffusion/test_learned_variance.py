"""Learned variances: the bound's terms against torch's distributions, the variances of a Gaussian, and training."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load
from scipy.stats import norm
from torch import Tensor

from darkroom.model.checkpoint import decode_checkpoint
from darkroom.model.config import (
    PredictionName,
    RecipeError,
    SamplingConfig,
    ScheduleConfig,
    ScheduleName,
    VarianceName,
)
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.forward import add_noise, posterior_coefficients
from darkroom.model.diffusion.learned_variance import bound_losses, bound_terms
from darkroom.model.diffusion.prediction import training_target
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.metrics.bound import bits_per_dimension
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.training.trainer import Trainer
from tests.model.gaussian import Gaussian
from tests.model.small import random_dataset, small_recipe

CPU = torch.device("cpu")
SIDE = 4
DATA = Gaussian(np.linspace(-0.2, 0.3, SIDE * SIDE), np.linspace(0.05, 0.15, SIDE * SIDE))


def best_variance(config: ScheduleConfig, t: int) -> np.ndarray:
    """Return the variance (D,) of x_{t-1} given x_t for the data DATA, with which the reverse process is exact.

    It is the posterior's variance plus the variance of its mean, as x_0 is uncertain given x_t.
    """
    schedule = make_schedule(config)
    a, _, posterior = posterior_coefficients(schedule, t, t - 1)
    left = (schedule.sigma[t] * DATA.deviation / DATA.spread(schedule, t)) ** 2
    return np.asarray(posterior + a * a * left)


def best_fraction(config: ScheduleConfig, t: int) -> np.ndarray:
    """Return the fraction (D,) that a network must predict for `best_variance`."""
    schedule = make_schedule(config)
    small = posterior_coefficients(schedule, max(t, 2), max(t, 2) - 1)[2]
    return np.asarray(np.log(best_variance(config, t) / small) / math.log(schedule.beta[t] / small))


def knowing(config: ScheduleConfig, fraction: np.ndarray | None = None, prediction: PredictionName = "v") -> Denoiser:
    """Return the exact denoiser of DATA with learned variances: those of `fraction` (D,), by default the best ones."""
    plain = DATA.denoiser(prediction, config, SIDE)
    told = np.stack([best_fraction(config, t) for t in range(1, config.steps + 1)])
    if fraction is not None:
        told = np.broadcast_to(fraction, told.shape)
    table = torch.tensor(np.concatenate([told[:1], told]))  # index 0 is unused

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([plain.network(x, t, labels), 2.0 * table[t].reshape(x.shape) - 1.0], dim=1)

    unet = plain.config.unet.model_copy(update={"learned_variance": True})
    return Denoiser(plain.config.model_copy(update={"unet": unet}), plain.class_names, network)


def test_the_bound_asks_the_device_for_no_value() -> None:
    """A GPU answers only after all of its earlier work. Tensors of the device `meta` have no values to ask for."""
    x0, estimate, fraction = (torch.zeros(3, 1, 4, 4, dtype=torch.float64, device="meta") for _ in range(3))
    assert bound_terms(ScheduleConfig(), x0, estimate, fraction, torch.tensor([1, 2, 900])).shape == (3,)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_term_is_the_divergence_of_two_normal_distributions_summed_over_pixels(schedule: ScheduleName) -> None:
    config = ScheduleConfig(name=schedule, steps=50)
    betas = make_schedule(config).beta[1:]
    abar = np.cumprod(1.0 - betas)
    draw = np.random.default_rng(0)
    x0 = draw.integers(0, 256, (5, 1, 2, 3)) / 127.5 - 1.0
    x0[0, 0, 0, :2] = -1.0, 1.0
    estimate, fraction = draw.uniform(-1, 1, x0.shape), draw.uniform(-0.3, 1.3, x0.shape)
    estimate[0] = x0[0] + draw.normal(0, 0.01, x0[0].shape)
    times = [1, 2, 7, 31, 50]
    expected = []
    for row, t in enumerate(times):
        n, total = t - 1, 0.0
        m = max(n, 1)  # beta-tilde_1 is zero, and beta-tilde_2 takes its place
        small = betas[m] * (1 - abar[m - 1]) / (1 - abar[m])
        for truth, guess, f in zip(x0[row].ravel(), estimate[row].ravel(), fraction[row].ravel(), strict=True):
            v = math.exp(f * math.log(betas[n]) + (1 - f) * math.log(small))
            if t == 1:
                upper, lower = (truth + 1 / 255 if truth < 1 else np.inf), (truth - 1 / 255 if truth > -1 else -np.inf)
                total -= math.log(norm.cdf(upper, guess, v**0.5) - norm.cdf(lower, guess, v**0.5))
            else:
                shift = abar[n - 1] ** 0.5 * betas[n] / (1 - abar[n]) * (truth - guess)
                total += 0.5 * (math.log(v / small) + (small + shift**2) / v - 1.0)
        expected.append(total)
    found = bound_terms(config, *map(torch.tensor, (x0, estimate, fraction)), torch.tensor(times))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("t", [1, 2, 15, 39, 40])
def test_the_best_variance_of_a_gaussian_minimises_the_bound(t: int) -> None:
    """There the expected term has its closed form and is stationary; elsewhere it is not."""
    config = ScheduleConfig(steps=40)
    schedule = make_schedule(config)
    count, draw = 20_000, np.random.default_rng(t)
    x0 = torch.tensor(draw.normal(DATA.mean, DATA.deviation, (count, SIDE * SIDE)))
    times = torch.full((count,), t)
    x = add_noise(schedule, x0, times, torch.tensor(draw.normal(size=x0.shape)))
    slope, intercept = map(torch.tensor, DATA.estimate(schedule, t))
    fraction = torch.tensor(best_fraction(config, t), requires_grad=True)
    terms = bound_terms(config, x0, slope * x + intercept, fraction.expand(count, -1), times)
    (slopes,) = torch.autograd.grad(terms.mean(), fraction)
    spread = abs(math.log(schedule.beta[t] / posterior_coefficients(schedule, max(t, 2), max(t, 2) - 1)[2]))
    # The sampling error of a mean of squares of `count` normal numbers, times the rate of log v. At t = 1 a pixel's
    # interval is wide compared with v's root, so its mass differs from density times width.
    assert slopes.abs().max() < 6.0 * spread * 0.5 * (2.0 / count) ** 0.5 + (0.02 * spread if t == 1 else 0.0)
    if t > 1:
        small = posterior_coefficients(schedule, t, t - 1)[2]
        closed = 0.5 * np.log(best_variance(config, t) / small).sum()
        assert terms.mean().item() == pytest.approx(closed, abs=6.0 * (0.5 * SIDE * SIDE / count) ** 0.5)
        worse = bound_terms(config, x0, slope * x + intercept, fraction.expand(count, -1) + 0.5, times)
        assert worse.mean() > terms.mean()


def test_with_the_best_variances_the_bound_is_the_likelihood_however_few_the_steps() -> None:
    config, count = ScheduleConfig(steps=10), 400
    points = np.random.default_rng(5).normal(DATA.mean, DATA.deviation, (count, SIDE * SIDE))
    pixels = np.clip(np.rint((points + 1.0) * 127.5), 0, 255).astype(np.uint8).reshape(count, 1, SIDE, SIDE)
    dataset = ImageDataset(pixels, np.zeros(count, np.int64), ("only",), "sha256:" + "0" * 64)
    x0 = pixels.reshape(count, -1) / 127.5 - 1.0
    high, low = ((x0 + d - DATA.mean) / DATA.deviation for d in (1 / 255, -1 / 255))
    exact = -np.log2(norm.cdf(high) - norm.cdf(low)).mean()

    def bound(variance: VarianceName) -> float:
        return bits_per_dimension(
            knowing(config), dataset, images=count, times=None, variance=variance, seed=0, batch_images=500
        )

    learned = bound("learned")
    assert learned == pytest.approx(exact, abs=0.02)
    assert min(bound("beta"), bound("beta_tilde")) > learned + 0.05


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_the_bound_teaches_the_variance_and_never_the_mean(prediction: PredictionName) -> None:
    config = ScheduleConfig(steps=20)
    schedule = make_schedule(config)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randint(0, 256, (6, 1, 4, 4), generator=generator) / 127.5 - 1.0
    eps, t = torch.randn(x0.shape, generator=generator), torch.tensor([1, 2, 5, 10, 19, 20])
    x = add_noise(schedule, x0, t, eps)
    target = training_target(schedule, prediction, x0, eps, t)
    output = (target + 0.1 * torch.randn(x0.shape, generator=generator)).requires_grad_()
    fraction = torch.full_like(x0, 0.5, requires_grad=True)
    losses = bound_losses(config, prediction, x, output, fraction, x0, t)
    assert losses.shape == (6,)
    assert losses.dtype == torch.float32
    losses.sum().backward()
    assert output.grad is None
    assert fraction.grad is not None
    assert fraction.grad.isfinite().all()
    assert (fraction.grad.flatten(1) != 0.0).all()


def test_the_mean_of_the_losses_over_times_is_the_bound_in_bits() -> None:
    config = ScheduleConfig(steps=8)
    schedule = make_schedule(config)
    x0 = (torch.arange(12).reshape(1, 1, 3, 4) * 20) / 127.5 - 1.0
    t = torch.arange(1, 9)
    x0 = x0.expand(8, 1, 3, 4)
    x = add_noise(schedule, x0, t, torch.ones_like(x0))
    estimate, fraction = 0.9 * x0, torch.full_like(x0, 0.3)
    terms = bound_terms(config, x0.double(), estimate.double(), fraction.double(), t)
    losses = bound_losses(config, "x0", x, estimate, fraction, x0, t)
    assert losses.mean().item() == pytest.approx(terms.sum().item() / 12 / math.log(2.0), rel=1e-5)


@pytest.mark.parametrize("steps", [20, 7])
def test_a_pixels_noise_is_that_of_its_own_variance(steps: int) -> None:
    """Pixels with fraction 0 are those drawn with beta-tilde, with 1 those drawn with beta, in all steps or some."""
    config = ScheduleConfig(steps=20)
    halves = np.repeat([0.0, 1.0], SIDE * SIDE // 2)

    def draw(denoiser: Denoiser, variance: VarianceName) -> np.ndarray:
        settings = SamplingConfig(sampler="ddpm", steps=steps, variance=variance, threshold="none")
        plans = [plan_row(denoiser, settings, label=0, seed=1, index=index) for index in range(3)]
        return sample(denoiser, plans).reshape(3, -1).numpy()

    learned, plain = knowing(config, halves), DATA.denoiser("v", config, SIDE)
    small, large = draw(plain, "beta_tilde"), draw(plain, "beta")
    np.testing.assert_allclose(draw(learned, "learned"), np.where(halves == 0.0, small, large), atol=1e-5)
    np.testing.assert_allclose(draw(learned, "beta"), large, atol=1e-5)
    assert np.abs(small - large).min() > 1e-4


def test_with_the_best_variances_few_ancestral_steps_keep_the_spread_of_the_data() -> None:
    config = ScheduleConfig(steps=6)

    def spread(variance: VarianceName) -> float:
        """Return the mean over pixels of the images' spread divided by the data's; 1 for a perfect sampler."""
        denoiser = knowing(config)
        settings = SamplingConfig(sampler="ddpm", steps=6, variance=variance, threshold="none")
        plans = [plan_row(denoiser, settings, label=0, seed=2, index=index) for index in range(4000)]
        images = sample(denoiser, plans, batch_rows=500).reshape(4000, -1).numpy()
        # The step to t = 0 adds no noise, so the variance of x_0 given x_1 is missing from all samplers.
        slope, _ = DATA.estimate(make_schedule(config), 1)
        reached = (slope * DATA.spread(make_schedule(config), 1)) ** 2
        return float((images.var(0) / reached).mean())

    assert spread("learned") == pytest.approx(1.0, abs=0.02)
    assert spread("beta_tilde") < 0.97
    assert spread("beta") > 1.03


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "unipc", "ipndm"])
def test_other_samplers_ignore_learned_variances(sampler: str) -> None:
    config = ScheduleConfig(steps=20)

    def draw(denoiser: Denoiser, variance: VarianceName) -> Tensor:
        settings = SamplingConfig.model_validate({"sampler": sampler, "steps": 5, "variance": variance})
        return sample(denoiser, [plan_row(denoiser, settings, label=0, seed=1)])

    torch.testing.assert_close(draw(knowing(config), "learned"), draw(DATA.denoiser("v", config, SIDE), "beta"))


def test_guidance_moves_means_only() -> None:
    """The fraction is that of the conditional output, for guided and unguided rows."""
    config = ScheduleConfig(steps=20)
    plain = DATA.denoiser("v", config, SIDE)

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        own = labels.reshape(-1, 1, 1, 1).to(x.dtype).expand(x.shape)
        return torch.cat([plain.network(x, t, labels) + own, own], dim=1)

    unet = plain.config.unet.model_copy(update={"learned_variance": True})
    denoiser = Denoiser(
        plain.config.model_copy(update={"schedule": config, "prediction": "v", "unet": unet}), ("a", "b"), network
    )
    x, t = torch.randn(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.tensor([9] * 3)
    labels = torch.tensor([0, 1, 2])
    weights = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    guided, fraction = denoiser.estimate(x, t, labels, weights)
    assert fraction is not None
    assert fraction[:, 0, 0, 0].tolist() == [0.5, 1.0, 1.5]
    conditional, _ = denoiser.estimate(x, t, labels, torch.ones(3, dtype=torch.float64))
    assert (guided[0] == conditional[0]).all()
    assert not torch.allclose(guided[1], conditional[1])


def test_a_model_without_learned_variances_refuses_them() -> None:
    denoiser = DATA.denoiser("v", ScheduleConfig(steps=20), SIDE)
    assert denoiser.estimate(torch.zeros(1, 1, 4, 4), torch.tensor([3]), torch.tensor([0]), torch.ones(1))[1] is None
    with pytest.raises(ValueError, match="has not learned variances"):
        plan_row(denoiser, SamplingConfig(sampler="ddpm", steps=5, variance="learned"), label=0, seed=0)
    with pytest.raises(ValueError, match="has not learned variances"):
        bits_per_dimension(
            denoiser, random_dataset(side=4), images=2, times=2, variance="learned", seed=0, batch_images=2
        )
    with pytest.raises(RecipeError, match=r"sampling\.variance learned needs model\.unet\.learned_variance"):
        small_recipe(sampling__variance="learned")


def _learning(**changes: object) -> Trainer:
    recipe = small_recipe(model__unet__learned_variance=True, sampling__variance="learned", **changes)
    return Trainer(recipe, random_dataset(), CPU)


@pytest.mark.parametrize("patch", [1, 2])
def test_the_network_predicts_two_numbers_for_each_pixel_and_begins_with_fraction_one_half(patch: int) -> None:
    attention = {"model__unet__attention_resolutions": (4 // patch,)}
    trainer = _learning(model__unet__patch_size=patch, **attention)
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 90]), torch.tensor([0, 1])
    assert trainer.network(x, t, labels).shape == (2, 2, 8, 8)
    _, fraction = trainer.denoiser().estimate(x, t, labels, torch.ones(2))
    assert fraction is not None
    assert (fraction == 0.5).all()


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    whole, first, second = _learning(), _learning(), _learning()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    second.resume(first.state(), source="state")
    for _ in range(3):
        second.step()
    assert second.checkpoint() == whole.checkpoint()
    states = load(second.state()), load(whole.state())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_variance_learns_only_from_the_weighted_bound() -> None:
    """With weight 0 the second output never changes; with a weight it changes from the first step on."""
    for weight, moved in ((0.0, False), (0.001, True)):
        trainer = _learning(objective__vlb_weight=weight, optimizer__weight_decay=0.0)
        trainer.step()
        mean, variance = trainer.network.head.weight.detach()
        assert mean.any()
        assert bool(variance.any()) == moved


def test_a_checkpoint_carries_learned_variances() -> None:
    trainer = _learning()
    trainer.step()
    checkpoint = decode_checkpoint(trainer.checkpoint(), source="run")
    assert checkpoint.header.model.unet.learned_variance
    loaded, own = checkpoint.denoiser(), trainer.denoiser()
    settings = SamplingConfig(sampler="ddpm", steps=4, variance="learned", guidance=2.0)
    drawn = [sample(one, [plan_row(one, settings, label=1, seed=0)]) for one in (loaded, own)]
    torch.testing.assert_close(drawn[0], drawn[1])
    plain = Trainer(small_recipe(), random_dataset(), CPU)
    with pytest.raises(ValueError, match=r"learned_variance: is False, .* has True"):
        plain.start_from(trainer.checkpoint(), source="run")


def test_the_network_learns_the_variances_of_its_own_errors() -> None:
    """After a short run the bound is lower with the learned fraction than with the initial one half."""
    trainer = _learning(
        training__total_images=800, objective__vlb_weight=1.0, optimizer__warmup_images=0, ema__decay=0.0
    )
    while not trainer.ended:
        trainer.step()
    learned = trainer.denoiser()

    def in_the_middle(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        output = learned.network(x, t, labels)
        return torch.cat([output[:, :1], torch.zeros_like(output[:, 1:])], dim=1)

    def bound(denoiser: Denoiser) -> float:
        return bits_per_dimension(
            denoiser, trainer.dataset, images=20, times=10, variance="learned", seed=0, batch_images=100
        )

    assert bound(learned) < bound(Denoiser(learned.config, learned.class_names, in_the_middle)) - 0.01
