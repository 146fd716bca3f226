"""Makes images square by cropping, padding or stretching, with Pillow's antialiased Lanczos filter."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from darkroom.model.config import Fit
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.decoded import check_size
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.progress import OnProgress, silent, told

WHITE = "#ffffff"


PROPOSED_SIDES = (64, 48, 32)
"""Sides to which larger pictures are scaled where nobody gives one: machines without a GPU can train them."""


def proposed_side(shorter: int) -> int:
    """Return the side to propose. shorter: the median of the pictures' shorter sides."""
    return next((side for side in PROPOSED_SIDES if side <= shorter), max(4, shorter))


def eight_bits(values: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Divide values in 0..65535 by 257 and round, so that they lie in 0..255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def narrowed(images: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.uint8]:
    """Return images (N, ...) of 8 or 16 bits with 8 bits."""
    if images.dtype.itemsize == 1:
        return images.astype(np.uint8, copy=False)
    narrow = np.empty(images.shape, dtype=np.uint8)
    for index, image in enumerate(images):  # one image at a time: `eight_bits` needs four bytes a pixel
        narrow[index] = eight_bits(image)
    return narrow


def square_picture(picture: Image.Image, side: int, fit: Fit = "crop", ground: str = WHITE) -> Image.Image:
    """Scale a picture to `side` by `side` pixels; a picture of that size is returned unchanged.

    crop scales the shorter side and keeps the centre, pad scales the longer side and adds `ground`, stretch scales
    both.
    The support of `Image.Resampling.LANCZOS` grows with the reduction, so that reducing does not alias.
    """
    size, method = (side, side), Image.Resampling.LANCZOS
    if picture.size == size:
        return picture
    if fit == "pad":
        return ImageOps.pad(picture, size, method=method, color=ground)
    return picture.resize(size, method) if fit == "stretch" else ImageOps.fit(picture, size, method=method)


def square_images(
    images: npt.NDArray[np.uint8],
    side: int | None,
    source: str,
    fit: Fit = "crop",
    ground: str = WHITE,
    on_progress: OnProgress = silent,
) -> npt.NDArray[np.uint8]:
    """Apply `square_picture` to an array. images: (N, C, H, W) uint8, C = 1 or 3; returns (N, C, side, side) uint8.

    `side` None returns the images unchanged. Raises DatasetError when the result would be too large.
    """
    count, channels, height, width = images.shape
    if side is None or (height, width) == (side, side) or channels not in (1, 3) or 0 in images.shape:
        return images
    check_size(count * channels * side * side, source)
    squares = np.empty((count, channels, side, side), dtype=np.uint8)
    for index, image in enumerate(told("scaling images", images, on_progress)):
        pixels = image[0] if channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        square = np.asarray(square_picture(Image.fromarray(pixels), side, fit, ground))
        squares[index] = square[None] if channels == 1 else square.transpose(2, 0, 1)
    return squares


def reduced(dataset: ImageDataset, side: int, on_progress: OnProgress = silent) -> ImageDataset:
    """Return the data set with its images scaled down to `side`, in memory; itself where they are not larger."""
    if dataset.images.shape[2] <= side:
        return dataset
    images = square_images(dataset.images, side, "the data set", on_progress=on_progress)
    names = dataset.class_names
    return ImageDataset(images, dataset.labels, names, content_digest(images, dataset.labels, names))
