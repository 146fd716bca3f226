"""A score is the documented log-likelihood ratio, and depends only on network, image and class."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from darkroom.model.config import PredictionName, ScheduleConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.prediction import from_x0, to_x0
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.images.pixels import from_pixels
from darkroom.model.sampling.noise import normal_noise
from darkroom.model.sampling.scoring import NOISE_SEED, SCORE_STEPS, TIMES, score, score_step
from tests.model.small import CLASS_NAMES, small_denoiser, small_model

SCHEDULE = ScheduleConfig(steps=200)


def pixels(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)


def two_gaussians(prediction: PredictionName, deviation: float) -> Denoiser:
    """The exact denoiser of two equally frequent classes N(mu_c, deviation^2), mu = -0.5 and 0.5 at all pixels."""
    tables = make_schedule(SCHEDULE)
    alpha, sigma = torch.tensor(tables.alpha), torch.tensor(tables.sigma)
    means = torch.tensor([-0.5, 0.5], dtype=torch.float64)

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        a, variance = alpha[t], alpha[t] ** 2 * deviation**2 + sigma[t] ** 2
        a, variance = a.reshape(-1, 1, 1, 1), variance.reshape(-1, 1, 1, 1)
        x = x.double()
        each = [mean + a * deviation**2 / variance * (x - a * mean) for mean in means]
        logits = torch.stack([-((x - a * mean) ** 2 / (2 * variance)).flatten(1).sum(1) for mean in means], 1)
        weights = torch.nn.functional.one_hot(labels, 3)[:, :2].double()
        weights = torch.where((labels == 2)[:, None], logits.softmax(1), weights)
        x0 = sum(weights[:, c].reshape(-1, 1, 1, 1) * each[c] for c in range(2))
        assert isinstance(x0, Tensor)
        return from_x0(tables, prediction, x, x0, t)

    config = small_model(schedule=SCHEDULE, prediction=prediction)
    return Denoiser(config, ("low", "high"), network)


@pytest.mark.parametrize("prediction", get_args(PredictionName))
def test_an_image_of_the_class_scores_higher_than_one_of_another(prediction: PredictionName) -> None:
    generator = torch.Generator().manual_seed(1)
    means = torch.tensor([-0.5, 0.5]).repeat(8).reshape(-1, 1, 1, 1)
    drawn = means + 0.8 * torch.randn(16, 1, 8, 8, generator=generator)
    images = ((drawn + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    exact = two_gaussians(prediction, 0.8)
    for label in (0, 1):
        found = score(exact, images, [label] * 16)
        assert found[label::2].min() > found[1 - label :: 2].max()


def test_what_a_network_predicts_does_not_matter() -> None:
    by_kind = [score(two_gaussians(kind, 0.3), pixels(5), [0, 1, 0, 1, 0]) for kind in get_args(PredictionName)]
    for one in by_kind[1:]:
        torch.testing.assert_close(one, by_kind[0], rtol=1e-3, atol=1e-5)


def test_a_network_that_does_not_know_classes_scores_nothing() -> None:
    blind = Denoiser(small_denoiser().config, CLASS_NAMES, lambda x, t, labels: torch.tanh(x + t[:, None, None, None]))
    assert torch.equal(score(blind, pixels(4), [0, 1, 2, 0]), torch.zeros(4))


@pytest.mark.parametrize("prediction", get_args(PredictionName))
def test_it_is_the_mean_of_the_stated_differences(prediction: PredictionName) -> None:
    """The test computes the definition for each image, through x_0."""
    denoiser, images, labels = small_denoiser(prediction), pixels(3), [2, 0, 1]
    tables = make_schedule(denoiser.config.schedule)
    for image, label, found in zip(images, labels, score(denoiser, images, labels).tolist(), strict=True):
        x0, terms = from_pixels(image[None]), []
        for step, share in enumerate(TIMES):
            t = torch.tensor([round(share * tables.steps)])
            eps = normal_noise([NOISE_SEED], [0], [step], x0.shape[1:], x0.device)
            x = float(tables.alpha[t]) * x0 + float(tables.sigma[t]) * eps
            errors = []
            for known in (denoiser.null_label, label):
                guess = to_x0(tables, prediction, x, denoiser.network(x, t, torch.tensor([known])), t)
                told = [from_x0(tables, "v", x, one, t) for one in (x0, guess)]
                errors.append(float((told[0] - told[1]).square().mean()))
            terms.append(errors[0] - errors[1])
        assert found == pytest.approx(sum(terms) / SCORE_STEPS, rel=1e-2, abs=1e-5)


def test_other_images_and_their_order_change_no_score() -> None:
    denoiser, images, labels = small_denoiser(), pixels(7), [0, 1, 2, 0, 1, 2, 0]
    together = score(denoiser, images, labels)
    torch.testing.assert_close(score(denoiser, images, labels, batch_images=3), together, rtol=1e-4, atol=1e-6)
    order = [3, 0, 6, 5, 1, 2, 4]
    moved = score(denoiser, images[order], [labels[k] for k in order])
    torch.testing.assert_close(moved, together[order], rtol=1e-4, atol=1e-6)
    assert len(set(together.tolist())) == 7


def test_rows_at_different_terms_share_a_call() -> None:
    denoiser, images = small_denoiser(), from_pixels(pixels(3))
    mixed = score_step(denoiser, images, [0, 1, 2], [5, 0, 3])
    alone = [score_step(denoiser, images[k : k + 1], [k], [step]) for k, step in enumerate((5, 0, 3))]
    torch.testing.assert_close(mixed, torch.cat(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("label", [-1, len(CLASS_NAMES)])
def test_an_image_without_a_class_has_no_score(label: int) -> None:
    with pytest.raises(ValueError, match="only images of a class"):
        score(small_denoiser(), pixels(2), [0, label])
