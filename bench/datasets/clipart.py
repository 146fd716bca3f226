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
    return {Path(name).name: folder_of(name, folder) for name in names}


def folder_of(name: str, folder: Path = FOLDER) -> Path:
    """Return the folder of a topic; raises FileNotFoundError where it is not installed."""
    path = folder / name
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; install Debian's package openclipart-png")
    return path


def largest(name: str, *, least: int = 20, most: int = 12, folder: Path = FOLDER) -> dict[str, Path]:
    """Return up to `most` folders below a topic, those with the most pictures and at least `least`, by their names."""
    found: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder_of(name, folder).rglob("*/")):
        pictures = sum(1 for _ in path.glob("*.png"))
        if pictures >= least:
            found.setdefault(path.name, (pictures, path))
    kept = sorted(found, key=lambda one: -found[one][0])[:most]
    return {one: found[one][1] for one in sorted(kept)}


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
