"""The counter-based noise: known answers, distribution, independence."""

import numpy as np
import pytest
import torch
from scipy import stats

from darkroom.model.sampling.noise import normal_noise, philox

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    c0, c1, c2, c3 = (torch.tensor([int(word, 16)]) for word in counter.split())
    k0, k1 = (torch.tensor([int(word, 16)]) for word in key.split())
    words = philox((c0, c1, c2, c3), (k0, k1))
    assert " ".join(f"{word.item():08x}" for word in words) == expected


def test_agrees_with_philox_in_plain_integers() -> None:
    """Python's unbounded integers show that no product loses its upper bits."""

    def plain(counter: list[int], key: list[int]) -> list[int]:
        a, b, c, d = counter
        k, m = key
        for _ in range(10):
            p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
            a, b, c, d = (q >> 32) ^ b ^ k, q & 0xFFFFFFFF, (p >> 32) ^ d ^ m, p & 0xFFFFFFFF
            k, m = (k + 0x9E3779B9) & 0xFFFFFFFF, (m + 0xBB67AE85) & 0xFFFFFFFF
        return [a, b, c, d]

    inputs = np.random.default_rng(0).integers(0, 2**32, (200, 6))
    columns = [torch.from_numpy(column.copy()) for column in inputs.T]
    words = philox((columns[0], columns[1], columns[2], columns[3]), (columns[4], columns[5]))
    ours = torch.stack(words, dim=1).tolist()
    assert ours == [plain(row[:4], row[4:]) for row in inputs.tolist()]


def test_the_noise_is_standard_normal() -> None:
    noise = normal_noise([7] * 20, list(range(20)), [0] * 20, (3, 32, 32), CPU).double().numpy()
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    assert np.abs(noise.ravel()).max() > 3.5
    for row in noise:
        assert stats.kstest(row.ravel(), "norm").pvalue > 1e-5


@pytest.mark.parametrize(
    ("seeds", "indices", "steps"),
    [
        ([0, 1, 2, 3], [0] * 4, [0] * 4),
        ([0, 1 << 32, 1 << 33, 2**63 - 1], [0] * 4, [0] * 4),
        ([5] * 4, [0, 1, 2, 3], [0] * 4),
        ([5] * 4, [0] * 4, [0, 1, 2, 1000]),
        ([5] * 4, [0, 1, 0, 1], [1, 0, 0, 1]),
    ],
    ids=["seed", "high half of the seed", "index", "step", "index and step"],
)
def test_rows_of_different_counters_are_independent(seeds: list[int], indices: list[int], steps: list[int]) -> None:
    noise = normal_noise(seeds, indices, steps, (1, 64, 64), CPU).flatten(1).double()
    correlation = torch.corrcoef(noise) - torch.eye(4, dtype=torch.float64)
    squares = torch.corrcoef(noise.square()) - torch.eye(4, dtype=torch.float64)
    assert correlation.abs().max() < 5 / 64
    assert squares.abs().max() < 5 / 64


def test_neighbouring_pixels_are_independent() -> None:
    flat = normal_noise([3], [0], [0], (1, 128, 128), CPU).flatten().double()
    for lag in (1, 2, 3, 4, 5, 128):
        assert abs(torch.corrcoef(torch.stack([flat[:-lag], flat[lag:]]))[0, 1]) < 5 / 128


def test_a_row_depends_on_its_own_counter_alone() -> None:
    together = normal_noise([9, 4, 9], [0, 3, 1], [0, 17, 2], (3, 5, 5), CPU)
    assert torch.equal(normal_noise([4], [3], [17], (3, 5, 5), CPU)[0], together[1])
    assert torch.equal(normal_noise([9, 9], [1, 0], [2, 0], (3, 5, 5), CPU), together[[2, 0]])


def test_shape_and_type() -> None:
    noise = normal_noise([1, 2], [0, 0], [0, 0], (3, 7, 7), CPU)
    assert noise.shape == (2, 3, 7, 7)
    assert noise.dtype == torch.float32
    assert noise.isfinite().all()
