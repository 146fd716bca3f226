"""Precision and recall against brute force over all pairs, and in cases with a known geometry."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import darkroom.model.metrics.pairs as pairs
from darkroom.model.metrics.pairs import add_pairs
from darkroom.model.metrics.precision_recall import Membership, squared_radii


def random_features(count: int, dimension: int, seed: int, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def measured(generated: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    found = Membership(squared_radii(generated, k), squared_radii(real, k))
    add_pairs(generated, real, found)
    return found.precision, found.recall


def brute_force(generated: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """Compute Kynkaanniemi et al. 2019, equations 1 and 2, pair by pair."""

    def inside(points: Tensor, manifold: Tensor) -> float:
        radii = [np.sort(np.linalg.norm(manifold - one, axis=1))[k] for one in manifold]  # index 0 is the point itself
        return float(
            np.mean([any(np.linalg.norm(p - m) <= r for m, r in zip(manifold, radii, strict=True)) for p in points])
        )

    return inside(generated.numpy(), real.numpy()), inside(real.numpy(), generated.numpy())


@settings(deadline=None, max_examples=25)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(1, 4), st.floats(0.0, 2.0), st.integers(0, 10_000))
def test_it_is_what_brute_force_finds(generated: int, real: int, k: int, shift: float, seed: int) -> None:
    x, y = random_features(generated, 3, seed, shift), random_features(real, 3, seed + 1)
    assert measured(x, y, k) == pytest.approx(brute_force(x, y, k))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = random_features(50, 4, 0, 0.5), random_features(60, 4, 1)
    whole = measured(x, y)
    monkeypatch.setattr(pairs, "BLOCK_FEATURES", 7)
    assert measured(x, y) == whole


def test_a_set_covers_itself_and_nothing_far_away() -> None:
    x = random_features(50, 8, 2)
    assert measured(x, x) == (1.0, 1.0)
    assert measured(x, x + 1000.0) == (0.0, 0.0)


def test_one_of_two_modes_is_faithful_and_covers_a_half() -> None:
    modes = torch.cat([random_features(100, 2, 3), random_features(100, 2, 4, 1000.0)])
    precision, recall = measured(random_features(100, 2, 5), modes)
    assert precision > 0.9
    assert 0.4 < recall <= 0.5


def test_a_far_centre_does_not_drown_the_distances() -> None:
    x, y = random_features(80, 16, 6, 0.3), random_features(80, 16, 7)
    far = [(one + 300.0).float() for one in (x, y)]
    assert measured(*far) == pytest.approx(measured(x, y), abs=0.02)


def test_radii_of_a_line() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert squared_radii(line, 1).tolist() == [1.0, 1.0, 4.0, 16.0]
    assert squared_radii(line, 3).tolist() == [49.0, 36.0, 16.0, 49.0]
    with pytest.raises(ValueError, match="more than 4 images"):
        squared_radii(line, 4)
