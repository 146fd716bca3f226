"""Images that a notebook shows as one picture."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from PIL import Image

from darkroom.model.config import SamplingConfig
from darkroom.model.images.pictures import Pixels, default_columns, grid, png, to_pillow

_PICTURE_SIDE = 64
"""Smaller images are enlarged in a notebook to about this many pixels."""


class ImageList(Sequence[Image.Image]):
    """A list of PIL images, in the order in which they were asked for.

    pixels: all of them, (N, H, W, C) uint8. columns: of the grid in which a notebook shows them.
    seed, sampling: with the model's weights, these make the images again. An interpolation has its first seed here.
    scores: one an image where the best were picked, else empty.
    """

    def __init__(
        self,
        pixels: Pixels,
        *,
        columns: int,
        seed: int,
        sampling: SamplingConfig,
        scores: Sequence[float] = (),
    ) -> None:
        self.pixels = pixels
        self.seed = seed
        self.sampling = sampling
        self.scores = tuple(scores)
        self._columns = columns

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[Image.Image]:
        return map(to_pillow, self.pixels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> "ImageList": ...

    def __getitem__(self, index: int | slice) -> "Image.Image | ImageList":
        if not isinstance(index, slice):
            return to_pillow(self.pixels[index])
        part = self.pixels[index]
        columns = default_columns(1, max(1, len(part)))
        return ImageList(part, columns=columns, seed=self.seed, sampling=self.sampling, scores=self.scores[index])

    def grid(self) -> Image.Image:
        """All images in one picture, such as `images.grid().save("sneakers.png")`; a single image as it is."""
        return to_pillow(self._sheet())

    def __repr__(self) -> str:
        count, height, width, _ = self.pixels.shape
        return f"<{count} images of {width}x{height} pixels, seed {self.seed}>"

    def _repr_png_(self) -> bytes | None:
        """Return the picture that a notebook shows."""
        if not len(self):
            return None
        return png(self._sheet(), scale=max(1, _PICTURE_SIDE // self.pixels.shape[1]))

    def _sheet(self) -> Pixels:
        return self.pixels[0] if len(self) == 1 else grid(np.asarray(self.pixels), self._columns)
