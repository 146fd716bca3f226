"""What a picture was made from. Each PNG names its sources and their digests, so that a test finds an outdated one."""

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.model.checkpoint import write_atomically
from darkroom.model.digest import digest_of

CHUNK = "Darkroom made from"
"""The text chunk: a JSON object, from a source's path, relative to the picture's folder, to its digest."""


def pictures(repository: Path) -> list[Path]:
    """Every picture of docs/ and weights/."""
    return sorted([*(repository / "docs").rglob("*.png"), *(repository / "weights").glob("*.png")])


def write_picture(path: Path, picture: bytes, sources: Sequence[Path]) -> None:
    """Write a PNG with its origin, in at most 256 colours. Its other text chunks are kept."""
    image = Image.open(BytesIO(picture))
    origin = {os.path.relpath(source, path.parent): digest_of(source.read_bytes()) for source in sources}
    chunks = PngInfo()
    for name, text in image.info.items():
        if isinstance(name, str) and isinstance(text, str):
            chunks.add_text(name, text)
    chunks.add_text(CHUNK, json.dumps(origin))
    small = image if image.mode == "L" else image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    file = BytesIO()
    small.save(file, "png", optimize=True, pnginfo=chunks)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, file.getvalue())


def origin_of(path: Path) -> dict[str, str]:
    """The digests by source; empty for a picture that names none. Reads no pixels."""
    with Image.open(path) as image:
        origin: dict[str, str] = json.loads(image.info.get(CHUNK, "{}"))
    return origin


def faults(path: Path) -> list[str]:
    """Why a picture is outdated; empty for one whose sources are as they were."""
    origin = origin_of(path)
    if not origin:
        return [f"{path} does not name what it was made from: run `make pictures`"]
    return [
        f"{path} was made from another {source}: run `make pictures`"
        for source, digest in origin.items()
        if digest_of((path.parent / source).read_bytes()) != digest
    ]
