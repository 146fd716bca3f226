"""The kernel distance against a plain sum over pairs, torchmetrics and a closed form for Gaussians."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import darkroom.model.metrics.pairs as pairs
from darkroom.model.metrics.kid import KernelSum, kernel_distance, kernel_sum_within
from darkroom.model.metrics.pairs import add_pairs


def random_features(count: int, dimension: int, seed: int, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def distance(x: Tensor, reference: Tensor) -> float:
    across = KernelSum(x.shape[1])
    add_pairs(x, reference, across)
    sums = kernel_sum_within(x), kernel_sum_within(reference), across.value
    return kernel_distance(len(x), len(reference), *sums)


class Passing(torch.nn.Module):
    """An extractor that returns the images as features."""

    num_features = 6

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_it_is_the_sum_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "BLOCK_FEATURES", 3)
    x, y = random_features(7, 4, 0).numpy(), random_features(5, 4, 1, 0.5).numpy()

    def kernel(a: object, b: object) -> float:
        return float((np.dot(a, b) / 4 + 1) ** 3)

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(one, 2)]) for one in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert distance(torch.tensor(x), torch.tensor(y)) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_it_agrees_with_torchmetrics_where_one_subset_is_everything() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance  # takes a second to import

    x, y = random_features(40, 6, 2), random_features(40, 6, 3, 0.3)
    metric = KernelInceptionDistance(feature=Passing(), subsets=1, subset_size=40)
    metric.set_dtype(torch.float64)
    metric.update(y, real=True)
    metric.update(x, real=False)
    assert distance(x, y) == pytest.approx(float(metric.compute()[0]), rel=1e-9)


def test_the_distance_of_shifted_gaussians_has_its_closed_form() -> None:
    """For independent x ~ N(a, 1) and y ~ N(b, 1) in one dimension, E k(x, y) is a polynomial in a and b.

    E (xy + 1)^3 = E x^3 E y^3 + 3 E x^2 E y^2 + 3 a b + 1 with E x^2 = a^2 + 1 and E x^3 = a^3 + 3 a.
    """

    def expected(a: float, b: float) -> float:
        return (a**3 + 3 * a) * (b**3 + 3 * b) + 3 * (a**2 + 1) * (b**2 + 1) + 3 * a * b + 1

    exact = expected(0.5, 0.5) + expected(0.0, 0.0) - 2 * expected(0.5, 0.0)
    found = [distance(random_features(2000, 1, 10 + k, 0.5), random_features(2000, 1, 50 + k)) for k in range(20)]
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - exact) < 4 * error
    assert error < exact / 10


def test_it_is_unbiased_however_few_the_images() -> None:
    """For equal distributions its mean is zero; the mean over all pairs, also i = j, is greater."""
    found = [distance(random_features(5, 3, k), random_features(5, 3, 10_000 + k)) for k in range(3000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / len(found) ** 0.5


def test_in_single_precision_it_is_the_same_to_a_part_in_ten_thousand() -> None:
    x, y = random_features(300, 1280, 4, 0.4).float(), random_features(200, 1280, 5, 0.5).float()
    assert distance(x, y) == pytest.approx(distance(x.double(), y.double()), rel=1e-4)


def test_one_image_has_no_distance() -> None:
    with pytest.raises(ValueError, match="2 images or more"):
        distance(random_features(1, 3, 6), random_features(5, 3, 7))
