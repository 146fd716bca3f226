"""Clip art of Debian's package `openclipart-png`: each topic folder is a class."""

import io
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image, ImageOps

from recipes.make_emoji import Picture, on_white, padded

FOLDER = Path("/usr/share/openclipart/png")
MOST_PIXELS = 4_000_000


def topics(*names: str, folder: Path = FOLDER) -> dict[str, Path]:
    """Return each topic's folder by the last part of its name; raises FileNotFoundError where it is not installed."""
    found = {Path(name).name: folder / name for name in names}
    for path in found.values():
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: no such folder; install Debian's package openclipart-png")
    return found


def clipart(classes: Mapping[str, Path], side: int) -> Iterator[Picture]:
    """Read the pictures below each class's folder, cut each to what is not white, and pad it to a square.

    Leaves out links, empty pages, and the few pictures above MOST_PIXELS, which take seconds each. Drawings whose names
    differ only in a number, such as `cat_01.png` and `cat_02.png`, are one concept.
    """
    for name, folder in classes.items():
        for path in sorted(folder.rglob("*.png")):
            content = path.read_bytes()
            width, height = struct.unpack(">II", content[16:24])  # of the PNG header
            if path.is_symlink() or width * height > MOST_PIXELS:
                continue
            stem = re.sub(r"[\d_]+", " ", path.stem).strip()
            with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
                flat = on_white(picture)
            box = ImageOps.invert(flat).getbbox()  # many drawings are a small part of a white page
            if box is None:
                continue
            file_name = "-".join(path.relative_to(folder).parts)
            yield Picture(name, f"{name}: {stem}", file_name, padded(flat.crop(box), side), path.stem)
