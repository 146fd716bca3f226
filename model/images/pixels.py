"""Images as the network sees them, floats in -1..1, and as files hold them, bytes in 0..255."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """(N, C, H, W) floats in -1..1, clipped, as (N, H, W, C) uint8."""
    scaled = ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels: npt.NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def from_pixels(pixels: Tensor) -> Tensor:
    """(N, C, H, W) uint8 as float32 in -1..1."""
    return pixels.float() / 127.5 - 1.0
