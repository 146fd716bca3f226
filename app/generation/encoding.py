"""Encodes finished images as png, webp, zip, npz or json, with the facts that draw them again."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from darkroom.app.engine.request import Pixels
from darkroom.app.generation.schemas import Answer, Format, GeneratedImage
from darkroom.model.images.archive import ArchiveFacts, ArchiveFormat, image_archive
from darkroom.model.images.described_png import described_png
from darkroom.model.images.pictures import grid, to_pillow

MEDIA_TYPES: Mapping[Format, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "zip": "application/zip",
    "npz": "application/x-npz",
    "json": "application/json",
}

WEBP_LARGEST_SIDE = 16383
GAP = 2
"""Pixels between the images of a grid."""


@dataclass(frozen=True)
class Drawn:
    """One finished image, (H, W, C) uint8.

    index, class_index: fix the image, together with the answer's seed and settings. score: None unless asked for.
    """

    index: int
    class_index: int
    class_name: str
    image: Pixels
    score: float | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of this image alone."""
        own = {"index": self.index, "class": self.class_name, "class_index": self.class_index}
        return own if self.score is None else own | {"score": self.score}


def encode(drawn: Sequence[Drawn], answer: Answer, wanted: Format, columns: int) -> bytes:
    """Return the body of an answer. columns: of a grid."""
    if wanted == "json":
        return _json(drawn, answer)
    facts = reproducing(answer)
    if wanted == "png":
        return described_png(_sheet(drawn, columns), facts | drawn[0].facts if len(drawn) == 1 else facts)
    return _webp(drawn, columns) if wanted == "webp" else _archive(wanted, drawn, facts)


def reproducing(answer: Answer) -> dict[str, Any]:
    """Return the facts that files carry: what draws the images again. So equal requests give equal bytes."""
    without = {"images", "id", "timings", "choice", *(["drawn_on"] if answer.drawn_on is None else [])}
    return answer.model_dump(exclude=without)


def sheet_size(count: int, columns: int, side: int) -> tuple[int, int]:
    """Return width and height of a picture with `count` square images. side: of one image; all in pixels."""
    if count == 1:
        return side, side
    return columns * (side + GAP) + GAP, math.ceil(count / columns) * (side + GAP) + GAP


def sheet(images: Sequence[Pixels], columns: int) -> Pixels:
    """Return one image as it is, and several as a grid. images: (H, W, C) each."""
    return images[0] if len(images) == 1 else grid(np.stack(images), columns, gap=GAP)


def _sheet(drawn: Sequence[Drawn], columns: int) -> Pixels:
    return sheet([one.image for one in drawn], columns)


def _json(drawn: Sequence[Drawn], answer: Answer) -> bytes:
    facts = reproducing(answer)
    pngs = [base64.b64encode(described_png(one.image, facts | one.facts)).decode() for one in drawn]
    images = tuple(
        GeneratedImage.model_validate(one.facts | {"score": one.score, "png": png})
        for one, png in zip(drawn, pngs, strict=True)
    )
    return json.dumps(answer.model_copy(update={"images": images}).model_dump()).encode()


def _webp(drawn: Sequence[Drawn], columns: int) -> bytes:
    buffer = BytesIO()
    to_pillow(_sheet(drawn, columns)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def _archive(wanted: ArchiveFormat, drawn: Sequence[Drawn], facts: Mapping[str, Any]) -> bytes:
    images = np.stack([one.image for one in drawn])
    class_names = {one.class_index: one.class_name for one in drawn}
    count, height, width, channels = images.shape
    buffer = BytesIO()
    described, shape = ArchiveFacts(facts, {}, class_names), (height, width, channels)
    with image_archive(wanted, buffer, described, images=count, image_shape=shape) as archive:
        archive.add(images, np.array([one.class_index for one in drawn]), np.array([one.index for one in drawn]))
        archive.finish()
    return buffer.getvalue()
