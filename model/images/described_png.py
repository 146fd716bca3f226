"""Writes and reads PNG files with facts about the image in a text chunk."""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.model.images.pictures import Pixels, to_pillow
from darkroom.model.user_error import UserError

_KEY = "darkroom"


class NotDescribed(UserError):
    """A file that is no readable PNG, or has no facts."""


def described_png(image: Pixels, facts: Mapping[str, Any]) -> bytes:
    """Return (H, W, C) uint8 as PNG bytes with `facts` as JSON in the text chunk `darkroom`."""
    information = PngInfo()
    information.add_text(_KEY, json.dumps(facts))
    buffer = BytesIO()
    to_pillow(image).save(buffer, "PNG", pnginfo=information)
    return buffer.getvalue()


class DescribedPng:
    """A PNG file from outside, whose header and facts were read. facts: a JSON object. size: (width, height).

    Raises NotDescribed.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._picture = Image.open(BytesIO(content), formats=("PNG",))
            text = self._picture.info.get(_KEY)
        except Exception as error:  # Pillow's decoders raise many kinds on damaged files
            raise NotDescribed("the file is no readable PNG: send it as it was saved") from error
        if not isinstance(text, str):
            raise NotDescribed(
                "the PNG does not say how it was drawn: Darkroom has not drawn it, or another program has stored it "
                "again without its text; send the file as Darkroom gave it"
            )
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NotDescribed("the PNG's text `darkroom` is no JSON: send the file as Darkroom gave it") from error
        if not isinstance(facts, dict):
            raise NotDescribed("the PNG's text `darkroom` is no JSON object: send the file as Darkroom gave it")
        self.facts: dict[str, Any] = facts
        self.size = self._picture.size

    def pixels(self, channels: int) -> Pixels:
        """Return (H, W, C) uint8 in grey (C = 1) or RGB (C = 3). Check `size` before: this needs memory for it."""
        try:
            picture = self._picture.convert("L" if channels == 1 else "RGB")
        except Exception as error:  # as above
            raise NotDescribed(f"the PNG's pixels are damaged: {error}") from error
        array = np.asarray(picture)
        return array[:, :, None] if channels == 1 else array
