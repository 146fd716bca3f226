"""Converts images between the network's floats in -1..1 and the bytes in 0..255 of files."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """Convert floats (N, C, H, W) in -1..1, which are clipped, to uint8 (N, H, W, C)."""
    pixels: npt.NDArray[np.uint8] = _scaled(images).cpu().numpy()
    return pixels


def to_pixels_and_finite(images: Tensor) -> Iterator[tuple[npt.NDArray[np.uint8], bool]]:
    """Yield each image as `to_pixels` converts it, in memory of its own, and True when all its values are finite.

    All come from the device in one copy.
    """
    finite = images.isfinite().flatten(1).all(1, keepdim=True)
    scaled = _scaled(images)
    for row in torch.cat([scaled.flatten(1), finite.to(torch.uint8)], dim=1).cpu().numpy():
        yield row[:-1].reshape(scaled.shape[1:]).copy(), bool(row[-1])


def _scaled(images: Tensor) -> Tensor:
    """Return the bytes of images (N, C, H, W) as (N, H, W, C)."""
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def from_pixels(pixels: Tensor) -> Tensor:
    """Convert uint8 of any shape to float32 in -1..1."""
    return pixels.float() / 127.5 - 1.0
