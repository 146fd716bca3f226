"""Spherical interpolation."""

import math

import torch

from darkroom.model.sampling.interpolation import slerp


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, count, 1, 6, 6, generator=generator)
    return a, b


def test_end_points_are_exact() -> None:
    a, b = rows(3)
    assert torch.equal(slerp(a, b, torch.zeros(3)), a)
    assert torch.equal(slerp(a, b, torch.ones(3)), b)
    mixed = slerp(a, b, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(mixed[0], a[0])
    assert torch.equal(mixed[2], b[2])


def test_norm_is_kept_and_the_angle_is_covered_evenly() -> None:
    a, b = rows(1)
    a, b = 6 * a / a.norm(), 6 * b / b.norm()
    angle = math.acos(float((a * b).sum()) / 36)
    for mix in (0.1, 0.25, 0.5, 0.9):
        between = slerp(a, b, torch.tensor([mix]))
        assert math.isclose(float(between.norm()), 6.0, rel_tol=1e-5)
        assert math.isclose(math.acos(float((a * between).sum()) / 36), mix * angle, rel_tol=1e-3)


def test_noise_stays_typical() -> None:
    """Halfway between two normal draws the norm equals theirs; a linear mix would lose 30%."""
    a, b = (torch.randn(50, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    norms = slerp(a, b, torch.full((50,), 0.5)).flatten(1).norm(dim=1)
    assert abs(float(norms.mean()) / math.sqrt(768) - 1) < 0.02


def test_going_back_is_the_same_walk() -> None:
    a, b = rows(2)
    mix = torch.tensor([0.3, 0.8])
    torch.testing.assert_close(slerp(a, b, mix), slerp(b, a, 1 - mix))


def test_parallel_rows_are_mixed_linearly() -> None:
    a, _ = rows(2)
    torch.testing.assert_close(slerp(a, a, torch.tensor([0.3, 0.7])), a)
    torch.testing.assert_close(slerp(a, 3 * a, torch.tensor([0.5, 0.5])), 2 * a)
