"""The moving average of the weights."""

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.model.config import EMAConfig
from darkroom.model.training.ema import ExponentialMovingAverage, power_exponent


def set_weight(network: nn.Linear, value: float) -> None:
    with torch.no_grad():
        network.weight.fill_(value)


def test_copy_phase_ends_as_a_copy_after_2000_iterations() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = ExponentialMovingAverage(network, EMAConfig(decay=0.99))
    for iteration in range(1, 2001):
        set_weight(network, iteration)
        average.update(network, iteration)
        assert average.weights["weight"].item() == iteration
    set_weight(network, 5000.0)
    average.update(network, 2001)
    assert average.weights["weight"].item() == pytest.approx(0.99 * 2000 + 0.01 * 5000)


def test_recursion_after_the_copy_phase() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = ExponentialMovingAverage(network, EMAConfig(decay=0.9, warmup_iterations=2))
    expected = 0.0
    for iteration, value in enumerate([3.0, 1.0, 4.0, -1.0, 5.0, -9.0], start=1):
        set_weight(network, value)
        average.update(network, iteration)
        expected = value if iteration <= 2 else 0.9 * expected + 0.1 * value
        assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_ramp_grows_to_the_decay() -> None:
    average = ExponentialMovingAverage(nn.Linear(1, 1), EMAConfig(decay=0.99, warmup="ramp"))
    assert [average.decay_at(n) for n in (1, 8, 90)] == pytest.approx([2 / 11, 9 / 18, 91 / 100])
    assert average.decay_at(890) == pytest.approx(0.99)
    assert average.decay_at(100_000) == 0.99


def test_the_average_depends_on_no_other_state() -> None:
    network = nn.Linear(2, 2)
    average = ExponentialMovingAverage(network, EMAConfig())
    before = {name: value.clone() for name, value in average.weights.items()}
    set_weight(network, 7.0)
    assert all(torch.equal(average.weights[name], value) for name, value in before.items())
    average.load(network.state_dict())
    set_weight(network, 8.0)
    assert (average.weights["weight"] == 7.0).all()


@pytest.mark.parametrize(("relative_length", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_power_exponents_are_the_published_ones(relative_length: float, gamma: float) -> None:
    assert power_exponent(relative_length) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("iterations", [400, 1600])
def test_a_power_average_spans_its_share_of_the_run_whatever_its_length(iterations: int) -> None:
    network = nn.Linear(iterations, 1, bias=False)
    average = ExponentialMovingAverage(network, EMAConfig(warmup="power", relative_length=0.1))
    for iteration in range(
        1, iterations + 1
    ):  # the weights of iteration m are the m-th unit vector, so the average shows each iteration's share
        with torch.no_grad():
            network.weight.zero_()
            network.weight[0, iteration - 1] = 1.0
        average.update(network, iteration)
    weights = average.weights["weight"][0].double().numpy()
    times = np.arange(1, iterations + 1) / iterations
    mean = weights @ times
    assert weights.sum() == pytest.approx(1.0, abs=1e-4)
    assert np.sqrt(weights @ (times - mean) ** 2) == pytest.approx(0.1, rel=0.02)
