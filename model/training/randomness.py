"""Randomness in training as a pure function of (seed, purpose, images seen): what makes a resumed run bit-exact."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_ORDER, _BATCH = 0, 1


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, size: int) -> npt.NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, _ORDER, epoch)))).permutation(size)


def batch_indices(size: int, seed: int, images_seen: int, batch_size: int) -> npt.NDArray[np.int64]:
    """Which images follow after `images_seen`: every epoch is a fresh permutation, and batches run across its end."""
    positions = np.arange(images_seen, images_seen + batch_size)
    epochs = positions // size
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        indices[here] = _epoch_order(seed, epoch, size)[positions[here] % size]
    return indices


def batch_seed(seed: int, images_seen: int, rank: int = 0) -> int:
    """Seed for what is drawn for the batch after `images_seen`: times, noise, label drop, flips, dropout.

    rank: of the process that draws, where each draws its own (dropout). What is drawn for the whole batch is rank 0's.
    """
    sequence = np.random.SeedSequence((seed, _BATCH, images_seen), spawn_key=(rank,) if rank else ())
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
