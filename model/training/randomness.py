"""Randomness in training as a pure function of (seed, purpose, images seen), which makes a resumed run bit-exact."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_ORDER, _BATCH = 0, 1


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, size: int) -> npt.NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, _ORDER, epoch)))).permutation(size)


def batch_indices(size: int, seed: int, images_seen: int, batch_size: int) -> npt.NDArray[np.int64]:
    """Return the indices (batch_size,) of the images after `images_seen`; a batch may cross the end of an epoch.

    size: of the data set. Every epoch has a permutation of its own.
    """
    positions = np.arange(images_seen, images_seen + batch_size)
    epochs = positions // size
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        indices[here] = _epoch_order(seed, epoch, size)[positions[here] % size]
    return indices


def batch_seed(seed: int, images_seen: int, rank: int = 0) -> int:
    """Return the seed for times, noise, label drop, flips and dropout of the batch after `images_seen`.

    rank: of this process for dropout, which each process draws itself; 0 for all that is drawn for the whole batch.
    """
    sequence = np.random.SeedSequence((seed, _BATCH, images_seen), spawn_key=(rank,) if rank else ())
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
