"""Converts images between the network's floats in -1..1 and the bytes in 0..255 of files."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """Convert floats (N, C, H, W) in -1..1, which are clipped, to uint8 (N, H, W, C)."""
    scaled = ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels: npt.NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def from_pixels(pixels: Tensor) -> Tensor:
    """Convert uint8 of any shape to float32 in -1..1."""
    return pixels.float() / 127.5 - 1.0
