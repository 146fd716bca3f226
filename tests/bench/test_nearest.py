"""Laws of nearest images: the fast search finds the same image as a plain search over all."""

import numpy as np
import pytest

from bench.nearest import Nearest, most_alike, nearest, nearest_table


def _images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 6, 6), dtype=np.uint8)


def test_agrees_with_a_search_over_all_pairs() -> None:
    training, images = _images(300, 0), _images(41, 1)
    found = nearest(images, training, chunk_images=7)
    differences = images[:, None].astype(np.float64) / 255 - training[None].astype(np.float64) / 255
    distances = np.sqrt((differences**2).sum((2, 3, 4)))
    np.testing.assert_array_equal(found.index, distances.argmin(1))
    np.testing.assert_allclose(found.distance, distances.min(1), rtol=1e-6)
    np.testing.assert_allclose(found.ratio, distances.min(1) / np.sort(distances, 1)[:, :50].mean(1), rtol=1e-6)


def test_a_copy_has_distance_and_ratio_zero() -> None:
    training = _images(120, 2)
    found = nearest(training[[7, 99]], training)
    assert found.index.tolist() == [7, 99]
    assert found.distance.tolist() == [0.0, 0.0]
    assert found.ratio.tolist() == [0.0, 0.0]


def test_one_changed_grey_level_is_told_from_a_copy() -> None:
    training = np.full((60, 1, 28, 28), 255, dtype=np.uint8)
    training[:59, 0, :, :14] = 0
    almost = training[59:].copy()
    almost[0, 0, 3, 3] -= 1
    assert nearest(almost, training).distance == pytest.approx([1 / 255], rel=1e-6)


def test_most_alike_stays_within_the_class() -> None:
    distance = np.array([3.0, 1.0, 2.0, 0.5, 9.0, 0.1])
    found = Nearest(np.zeros(6, dtype=np.int64), distance, distance)
    assert most_alike(found, 2, 2).tolist() == [1, 2, 5, 3]


def test_the_table_sets_least_and_median_side_by_side() -> None:
    low = Nearest(np.zeros(3, dtype=np.int64), np.array([1.0, 2.0, 6.0]), np.array([0.1, 0.2, 0.9]))
    high = Nearest(np.zeros(3, dtype=np.int64), np.array([4.0, 5.0, 7.0]), np.array([0.5, 0.6, 0.7]))
    generated, real = nearest_table(low, high).splitlines()[2:]
    assert generated == "| generated | 3 | 1.000 | 1.100 | 2.000 | 0.100 | 0.110 | 0.200 |"
    assert real == "| real, from the test set | 3 | 4.000 | 4.100 | 5.000 | 0.500 | 0.510 | 0.600 |"
