"""Makes images square: takes the centre square and scales it with Pillow's antialiased Lanczos filter."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from darkroom.model.datasets.decoded import check_size


def eight_bits(values: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Divide values in 0..65535 by 257 and round, so that they lie in 0..255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def square_picture(picture: Image.Image, side: int) -> Image.Image:
    """Scale the shorter side to `side` pixels and crop the centre; a picture of that size is returned unchanged.

    The support of `Image.Resampling.LANCZOS` grows with the reduction, so that reducing does not alias.
    """
    if picture.size == (side, side):
        return picture
    return ImageOps.fit(picture, (side, side), method=Image.Resampling.LANCZOS)


def square_images(images: npt.NDArray[np.uint8], side: int | None, source: str) -> npt.NDArray[np.uint8]:
    """Apply `square_picture` to an array. images: (N, C, H, W) uint8, C = 1 or 3; returns (N, C, side, side) uint8.

    `side` None returns the images unchanged. Raises DatasetError when the result would be too large.
    """
    count, channels, height, width = images.shape
    if side is None or (height, width) == (side, side) or channels not in (1, 3) or 0 in images.shape:
        return images
    check_size(count * channels * side * side, source)
    squares = np.empty((count, channels, side, side), dtype=np.uint8)
    for index, image in enumerate(images):
        pixels = image[0] if channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        square = np.asarray(square_picture(Image.fromarray(pixels), side))
        squares[index] = square[None] if channels == 1 else square.transpose(2, 0, 1)
    return squares
