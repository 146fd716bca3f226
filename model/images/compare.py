"""Compares images by small copies of them."""

import numpy as np
import numpy.typing as npt

THUMBNAIL = 8
Vectors = npt.NDArray[np.float32]
"""(N, D): a thumbnail's values in each line."""


def thumbnails(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Average blocks of pixels. images: (N, C, S, S); returns (N, C, n, n) with n of 8 to 15, or S when S < 8."""
    count, channels, side, _ = images.shape
    block = max(1, side // THUMBNAIL)
    cells = side // block
    cut = images[:, :, : cells * block, : cells * block].reshape(count, channels, cells, block, cells, block)
    return np.asarray(cut.mean(axis=(3, 5), dtype=np.float32))


def distances(ones: Vectors, others: Vectors) -> Vectors:
    """Return all Euclidean distances. ones: (N, D); others: (M, D); returns (N, M)."""
    squares = (ones**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2.0 * ones @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)), dtype=np.float32)
