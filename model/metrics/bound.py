"""The variational bound on a model's negative log-likelihood, in bits per dimension of real images.

    L = L_T + sum_{t = 2}^{T} L_{t-1} + L_0
    L_T     = KL(q(x_T | x_0) || N(0, 1))
    L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || N(mu(x_t, t), v_t))
    L_0     = -log p(x_0 | x_1)

(Ho et al. 2020, equations 5 and 13; Nichol & Dhariwal 2021, equations 4 to 7). p(x_0 | x_1) is the mass of
N(mu(x_1, 1), v_1) in the interval of the pixel's value, 2/255 wide and open at both ends of the scale.

mu is the posterior's mean for the model's estimate of x_0, clipped to -1..1. v_t is beta_t or beta-tilde_t, with v_1 =
beta-tilde_2 for both, because beta-tilde_1 is zero (Ho et al.'s code). Or v_t is learned
(`model/diffusion/learned_variance.py`). The mass in L_0 has no lower limit; code that replaces masses below 1e-12
reports smaller values.

All terms of an image take T network calls. K of them estimate the sum without bias: always t = 1, and one time drawn
from each of K - 1 strata, whose term is multiplied by the stratum's size. Strata grow with t, because the terms fall.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from darkroom.model.config import ScheduleConfig, VarianceName
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser, SamplingStopped
from darkroom.model.diffusion.forward import add_noise, posterior_coefficients
from darkroom.model.diffusion.learned_variance import bound_terms
from darkroom.model.diffusion.schedule import NoiseSchedule, Table, make_schedule
from darkroom.model.diffusion.variational import decoder_term
from darkroom.model.images.pixels import from_pixels
from darkroom.model.metrics.reference_images import evenly_spaced
from darkroom.model.progress import OnProgress, silent
from darkroom.model.sampling.noise import normal_noise

Times = npt.NDArray[np.int64]


def strata(steps: int, times: int) -> Times:
    """Return bounds b (K,) of K - 1 strata b[j] <= t < b[j + 1] that divide 2..T about equally in log t. times: K.

    Raises ValueError for more times than the model has, or fewer than two.
    """
    if not 2 <= times <= steps:
        raise ValueError(f"times must be between 2 and the model's {steps}, not {times}")
    count = times - 1
    bounds = np.rint(2.0 * ((steps + 1) / 2.0) ** (np.arange(count + 1) / count)).astype(np.int64)
    for j in range(1, count):  # at least one time in each stratum, with enough left for the later ones
        bounds[j] = min(max(bounds[j], bounds[j - 1] + 1), steps + 1 - (count - j))
    return bounds


def times_of_image(steps: int, times: int | None, seed: int, image: int) -> tuple[Times, npt.NDArray[np.float64]]:
    """Return (t, weight), (K,) each: the times of an image's terms, and the number of terms that each represents.

    times: K, or None for all of 1..T. The draw depends only on (seed, image).
    """
    if times is None:
        return np.arange(1, steps + 1, dtype=np.int64), np.ones(steps)
    bounds = strata(steps, times)
    sizes = np.diff(bounds)
    drawn = bounds[:-1] + np.random.default_rng((seed, image)).integers(0, sizes)
    return np.concatenate([[1], drawn]), np.concatenate([[1.0], sizes])


def bits_per_dimension(
    denoiser: Denoiser,
    dataset: ImageDataset,
    *,
    images: int,
    times: int | None,
    variance: VarianceName,
    seed: int,
    batch_images: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = silent,
) -> float:
    """Return the bound, in bits per dimension, as a mean over evenly spaced images of the data set with their classes.

    The noise of image i at t depends on (seed, i, t). Memory does not grow with `images` or `times`. Raises ValueError
    for more times than the model has, a variance that it has not learned, and estimates that are not finite;
    SamplingStopped when `should_stop` returns True between two batches.
    """
    if variance == "learned" and not denoiser.config.learned_variance:
        raise ValueError("the model has not learned variances")
    schedule = make_schedule(denoiser.config.schedule)
    chosen = evenly_spaced(len(dataset), images)
    rows = (
        (int(image), int(t), float(weight))
        for image in chosen
        for t, weight in zip(*times_of_image(schedule.steps, times, seed, int(image)), strict=True)
    )
    nats, done, terms_in_all = 0.0, 0, len(chosen) * (times or schedule.steps)
    while batch := tuple(islice(rows, batch_images)):
        if should_stop():
            raise SamplingStopped
        on_progress("computing the bound", done * len(chosen) // terms_in_all, len(chosen))
        indices, t, weights = zip(*batch, strict=True)
        pixels = torch.from_numpy(dataset.images[list(indices)]).to(denoiser.device)
        labels = torch.from_numpy(dataset.labels[list(indices)]).to(denoiser.device)
        terms = _terms(denoiser, pixels, labels, torch.tensor(t), indices, variance, seed)
        nats += float((terms * torch.tensor(weights, dtype=torch.float64)).sum())
        done += len(batch)
    for first in range(0, len(chosen), batch_images):
        x0 = from_pixels(torch.from_numpy(dataset.images[chosen[first : first + batch_images]])).double()
        nats += float(prior_term(schedule, x0).sum())
    if not math.isfinite(nats):
        raise ValueError("the model's estimates are not finite numbers")
    return nats / (len(chosen) * math.prod(denoiser.image_shape) * math.log(2.0))


def prior_term(schedule: NoiseSchedule, x0: Tensor) -> Tensor:
    """Return L_T in nats, (B,), of images (B, C, H, W) in -1..1."""
    left = float(schedule.alpha_bar[-1])
    return 0.5 * (left * (x0.square() - 1.0) - math.log1p(-left)).flatten(1).sum(1)


@lru_cache(maxsize=16)
def step_tables(config: ScheduleConfig, variance: VarianceName) -> tuple[Table, Table]:
    """Return (constant, factor) over t >= 2: L_{t-1} = sum over dimensions of constant_t + factor_t (x_0 - estimate)^2.

    It is the KL divergence of two normal distributions with variances beta-tilde_t and v_t, whose means differ by
    a_t (x_0 - estimate).
    """
    schedule = make_schedule(config)
    constant, factor = np.zeros(schedule.steps + 1), np.zeros(schedule.steps + 1)
    for t in range(2, schedule.steps + 1):
        a, _, posterior = posterior_coefficients(schedule, t, t - 1)
        v = posterior if variance == "beta_tilde" else float(schedule.beta[t])
        constant[t] = 0.5 * (math.log(v / posterior) + posterior / v - 1.0)
        factor[t] = 0.5 * a * a / v
    return constant, factor


@torch.inference_mode()
def _terms(
    denoiser: Denoiser,
    pixels: Tensor,
    labels: Tensor,
    t: Tensor,
    indices: Sequence[int],
    variance: VarianceName,
    seed: int,
) -> Tensor:
    """Return L_{t-1} of each row in nats, (B,) float64 on the CPU. t: (B,) in 1..T on the CPU; indices: of images."""
    config = denoiser.config.schedule
    schedule = make_schedule(config)
    x0 = from_pixels(pixels)
    eps = normal_noise([seed] * len(t), indices, t.tolist(), x0.shape[1:], x0.device)
    x = add_noise(schedule, x0, t, eps)
    estimate, fraction = denoiser.estimate(x, t, labels, torch.ones(len(t), dtype=torch.float64))
    x0, estimate = x0.double(), estimate.clamp(-1.0, 1.0).double()
    if variance == "learned":
        assert fraction is not None
        return bound_terms(config, x0, estimate, fraction.double(), t).cpu()
    constant, factor = step_tables(config, variance)
    squares = (x0 - estimate).square().flatten(1).sum(1).cpu()
    terms = torch.from_numpy(constant[t.numpy()]) * math.prod(x0.shape[1:])
    terms = terms + torch.from_numpy(factor[t.numpy()]) * squares
    first = t == 1
    if first.any():
        deviation = posterior_coefficients(schedule, 2, 1)[2] ** 0.5
        rows = first.to(x0.device)
        terms[first] = decoder_term(x0[rows], estimate[rows], deviation).cpu()
    return terms
