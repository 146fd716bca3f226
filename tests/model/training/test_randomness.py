"""The order of images is a function of (seed, images seen)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from darkroom.model.training.randomness import batch_indices, batch_seed


@given(st.integers(1, 50), st.integers(0, 2**63 - 1), st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_any_batches_make_the_same_sequence_of_epochs(size: int, seed: int, batches: list[int]) -> None:
    seen, parts = 0, []
    for batch in batches:
        parts.append(batch_indices(size, seed, seen, batch))
        seen += batch
    sequence = np.concatenate(parts)
    assert (sequence == batch_indices(size, seed, 0, seen)).all()
    for start in range(0, seen - size + 1, size):
        assert sorted(sequence[start : start + size]) == list(range(size))


def test_epochs_and_seeds_differ() -> None:
    first, second = batch_indices(100, 1, 0, 100), batch_indices(100, 1, 100, 100)
    assert (first != second).any()
    assert (first != batch_indices(100, 2, 0, 100)).any()


def test_every_batch_has_its_own_seed() -> None:
    seeds = {batch_seed(seed, seen) for seed in range(20) for seen in range(0, 6400, 64)}
    assert len(seeds) == 20 * 100
    assert all(0 <= seed < 2**63 for seed in seeds)
