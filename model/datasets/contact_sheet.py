"""A picture of a data set, for people: the first images of each class, one line for each class."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.resize import square_picture
from darkroom.model.images.pictures import grid, png

MOST_IMAGES = 10
MOST_CLASSES = 50
LARGEST_SIDE = 96
"""Largest side of an image on the sheet, in pixels; larger images are scaled down."""


def shown(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image (C, H, W) as (S, S, C), with S at most LARGEST_SIDE."""
    channels_last = np.ascontiguousarray(image.transpose(1, 2, 0))
    if len(channels_last) <= LARGEST_SIDE:
        return channels_last
    picture = Image.fromarray(channels_last[:, :, 0] if channels_last.shape[2] == 1 else channels_last)
    pixels = np.asarray(square_picture(picture, LARGEST_SIDE))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def contact_sheet(decoded: Decoded) -> bytes:
    """Return a PNG with the first ten images of each of the first fifty classes; shorter lines end in white."""
    classes = min(len(decoded.class_names), MOST_CLASSES)
    lines = [np.flatnonzero(decoded.labels == label)[:MOST_IMAGES] for label in range(classes)]
    columns = max(1, max(len(line) for line in lines))
    side = min(decoded.images.shape[2], LARGEST_SIDE)
    sheet = np.full((classes * columns, side, side, decoded.images.shape[1]), 255, dtype=np.uint8)
    for number, line in enumerate(lines):
        for place, index in enumerate(line):
            sheet[number * columns + place] = shown(decoded.images[index])
    return png(grid(sheet, columns))
