"""The loss, its weights, and label drop."""

import numpy as np
import pytest
import torch
from scipy import stats

from darkroom.model.config import ObjectiveConfig, PredictionName, ScheduleConfig
from darkroom.model.diffusion.forward import add_noise
from darkroom.model.diffusion.prediction import convert, training_target
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.training.objective import drop_labels, loss_weights, row_losses

SCHEDULE = make_schedule(ScheduleConfig())
MIN_SNR = ObjectiveConfig(weighting="min_snr", min_snr_gamma=5.0)


def test_simple_weights_are_one() -> None:
    assert (loss_weights(SCHEDULE, "eps", ObjectiveConfig())[1:] == 1.0).all()


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights(gamma: float) -> None:
    config = ObjectiveConfig(weighting="min_snr", min_snr_gamma=gamma)
    for t in (1, 100, 500, 999, 1000):
        snr = SCHEDULE.alpha_bar[t] / (1 - SCHEDULE.alpha_bar[t])
        assert loss_weights(SCHEDULE, "x0", config)[t] == pytest.approx(min(snr, gamma))
        assert loss_weights(SCHEDULE, "eps", config)[t] == pytest.approx(min(snr, gamma) / snr)
        assert loss_weights(SCHEDULE, "v", config)[t] == pytest.approx(min(snr, gamma) / (snr + 1))


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_min_snr_loss_is_the_same_whatever_is_predicted(kind: PredictionName) -> None:
    """A wrong estimate of x_0 costs the same when it is expressed as eps or v, which is why there are divisors."""
    generator = torch.Generator().manual_seed(0)
    t = torch.tensor([1, 50, 400, 800, 1000])
    x0, eps, wrong = torch.randn(3, 5, 1, 4, 4, generator=generator, dtype=torch.float64)
    x = add_noise(SCHEDULE, x0, t, eps)

    def loss(prediction: PredictionName) -> torch.Tensor:
        output = convert(SCHEDULE, "x0", prediction, x, wrong, t)
        target = training_target(SCHEDULE, prediction, x0, eps, t)
        return row_losses(loss_weights(SCHEDULE, prediction, MIN_SNR), output, target, t)

    torch.testing.assert_close(loss(kind), loss("x0"), rtol=1e-3, atol=0.0)


def test_row_losses_are_weighted_means_over_pixels_in_float32() -> None:
    weights = np.array([0.0, 2.0, 3.0])
    output = torch.tensor([[[1.0, 2.0]], [[0.0, 4.0]]], dtype=torch.bfloat16)
    losses = row_losses(weights, output, torch.zeros_like(output), torch.tensor([1, 2]))
    assert losses.dtype == torch.float32
    assert losses.tolist() == [2.0 * 2.5, 3.0 * 8.0]


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_labels_are_dropped_at_the_rate_asked_for(probability: float) -> None:
    labels = torch.arange(100_000) % 7
    dropped = drop_labels(labels, 7, probability, torch.Generator().manual_seed(0))
    count = int((dropped == 7).sum())
    assert stats.binomtest(count, len(labels), probability).pvalue > 1e-4
    assert torch.equal(dropped[dropped != 7], labels[dropped != 7])
    by_class = [int((dropped[labels == label] == 7).sum()) for label in range(7)]
    assert stats.chisquare(by_class).pvalue > 1e-4


@pytest.mark.parametrize(("probability", "expected"), [(0.0, [0, 1, 2]), (1.0, [9, 9, 9])])
def test_labels_never_or_always_dropped(probability: float, expected: list[int]) -> None:
    assert drop_labels(torch.arange(3), 9, probability, torch.Generator()).tolist() == expected
