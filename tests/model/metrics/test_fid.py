"""The Fréchet distance against closed forms, scipy's matrix square root and torchmetrics."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from darkroom.model.metrics.fid import (
    FeatureStatistics,
    FrechetReference,
    decode_reference,
    encode_reference,
    frechet_distance,
)
from darkroom.model.metrics.stored import StatisticsError
from darkroom.model.protocol import Facts

FACTS: Facts = {"extractor": "some", "reference_images": 7, "nothing": None}


def statistics_of(features: Tensor, batch: int = 50) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    for part in features.split(batch):
        statistics.add(part)
    return statistics


def distance(features: Tensor, reference: Tensor) -> float:
    return frechet_distance(statistics_of(features), FrechetReference.of(statistics_of(reference)))


def random_features(count: int, dimension: int, seed: int) -> Tensor:
    """Return correlated features with a mean that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    return 3.0 + torch.randn(count, dimension, generator=generator, dtype=torch.float64) @ mixing


def with_moments(mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64]) -> Tensor:
    """Return 2 D points on the axes whose sample mean and (diagonal) sample covariance are exactly these."""
    size = len(mean)
    reach = deviation * np.sqrt((2 * size - 1) / 2)
    return torch.tensor(np.concatenate([mean + np.diag(reach), mean - np.diag(reach)]))


class Passing(torch.nn.Module):
    """An extractor that returns the images as features."""

    num_features = 6

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_gaussians_with_diagonal_covariances_have_the_closed_form() -> None:
    mean, other_mean = np.array([1.0, -2.0, 0.0]), np.array([0.0, 2.0, 0.5])
    deviation, other_deviation = np.array([1.0, 0.3, 2.0]), np.array([2.0, 0.3, 0.0])
    expected = ((mean - other_mean) ** 2).sum() + ((deviation - other_deviation) ** 2).sum()
    found = distance(with_moments(mean, deviation), with_moments(other_mean, other_deviation))
    assert found == pytest.approx(expected, rel=1e-7)


def test_a_rotation_of_both_sets_changes_nothing() -> None:
    a, b = random_features(300, 8, 0), random_features(200, 8, 1)
    turn = torch.linalg.qr(random_features(8, 8, 2)).Q
    assert distance(a @ turn, b @ turn) == pytest.approx(distance(a, b), rel=1e-9)


@pytest.mark.parametrize(("count", "other_count"), [(500, 400), (20, 400), (400, 20), (20, 15)])
def test_it_agrees_with_scipys_matrix_square_root(count: int, other_count: int) -> None:
    a, b = random_features(count, 32, 3).numpy(), random_features(other_count, 32, 4).numpy()
    s, r = np.cov(a.T), np.cov(b.T)
    # The product may be singular, which scipy's square root does not handle. A small ridge avoids this and changes the
    # result only by its own size, because the trace of the root is the sum of the eigenvalues' roots.
    ridge = 1e-9 * np.eye(32)
    root: Any = scipy.linalg.sqrtm((s + ridge) @ (r + ridge))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + r) - 2.0 * np.trace(root).real
    assert distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [300, 5])
def test_it_agrees_with_torchmetrics(count: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance  # takes a second to import

    a, b = random_features(count, 6, 5), random_features(200, 6, 6)
    metric = FrechetInceptionDistance(feature=Passing(), normalize=True, input_img_size=(6, 1, 1))
    metric.set_dtype(torch.float64)
    for part in b.split(64):
        metric.update(part[:, :, None, None], real=True)
    for part in a.split(64):
        metric.update(part[:, :, None, None], real=False)
    assert distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_a_set_lies_at_no_distance_from_itself() -> None:
    features = random_features(400, 48, 7)
    scale = float(statistics_of(features).covariance.trace())
    assert abs(distance(features, features)) < 1e-9 * scale


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_order_and_size_of_batches_do_not_matter(sizes: list[int], random: Any) -> None:
    features = random_features(sum(sizes) + 2, 5, 8)
    whole = statistics_of(features, len(features))
    parts = list(features.split([*sizes, 2]))
    random.shuffle(parts)
    streamed = FeatureStatistics(5)
    for part in parts:
        streamed.add(part)
    assert streamed.count == whole.count
    torch.testing.assert_close(streamed.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(streamed.covariance, whole.covariance, rtol=1e-11, atol=1e-11)


def test_a_large_mean_does_not_drown_the_covariance() -> None:
    features = random_features(1000, 4, 9)
    shifted = statistics_of(features + 1e6)
    torch.testing.assert_close(shifted.covariance, statistics_of(features).covariance, rtol=1e-7, atol=1e-7)


def test_an_empty_batch_changes_nothing() -> None:
    statistics = statistics_of(random_features(10, 3, 10))
    before = statistics.mean.clone()
    statistics.add(torch.empty(0, 3))
    assert statistics.count == 10
    assert torch.equal(statistics.mean, before)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="2 images or more"):
        FrechetReference.of(statistics_of(random_features(1, 3, 11)))


def test_features_of_other_dimensions_do_not_compare() -> None:
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        distance(random_features(5, 3, 12), random_features(5, 4, 13))


def test_stored_statistics_come_back_to_the_bit() -> None:
    reference = FrechetReference.of(statistics_of(random_features(30, 4, 14)))
    read = decode_reference(encode_reference(reference, FACTS), FACTS, 4)
    assert read.count == reference.count
    assert torch.equal(read.mean, reference.mean)
    assert torch.equal(read.root, reference.root)


def test_statistics_of_something_else_are_refused() -> None:
    data = encode_reference(FrechetReference.of(statistics_of(random_features(30, 4, 15))), FACTS)
    with pytest.raises(StatisticsError, match="not of"):
        decode_reference(data, {**FACTS, "reference_images": 8}, 4)
    with pytest.raises(StatisticsError, match="instead of"):
        decode_reference(data, FACTS, 5)


def test_damaged_statistics_are_refused() -> None:
    data = encode_reference(FrechetReference.of(statistics_of(random_features(30, 4, 16))), FACTS)
    for damaged in (b"", data[:-1], data[:40], b"\x80\x04." + data, save({"mean": torch.zeros(4)})):
        with pytest.raises(StatisticsError):
            decode_reference(damaged, FACTS, 4)
