"""Writes a PNG file with facts about the image in a text chunk."""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL.PngImagePlugin import PngInfo

from darkroom.model.images.pictures import Pixels, to_pillow


def described_png(image: Pixels, facts: Mapping[str, Any]) -> bytes:
    """Return (H, W, C) uint8 as PNG bytes with `facts` as JSON in the text chunk `darkroom`."""
    information = PngInfo()
    information.add_text("darkroom", json.dumps(facts))
    buffer = BytesIO()
    to_pillow(image).save(buffer, "PNG", pnginfo=information)
    return buffer.getvalue()
