"""Draws emoji from packages of SVG drawings in the Iconify format (icons.json, info.json, chars.json)."""

import json
import re
import subprocess
import unicodedata
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

_DRAWN_SIDE = 128


class DrawingsError(Exception):
    """The package or the program that draws SVG cannot be used; the text says why."""


def slug(name: str) -> str:
    """Return an emoji's name as the packages write it: "flag: Côte d’Ivoire" gives "flag-cote-divoire"."""
    plain = unicodedata.normalize("NFKD", name.lower()).replace("&", "and")
    plain = plain.replace("#", "number-sign").replace("*", "asterisk")
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter) and letter not in "’'“”.!()")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


class Drawings:
    """A package of drawings in a folder. name: a short one; licence: author, licence and addresses, as stated."""

    def __init__(self, folder: Path) -> None:
        """Read the package; raises DrawingsError for a folder that holds none."""
        try:
            self._icons = json.loads((folder / "icons.json").read_text("utf-8"))
            info = json.loads((folder / "info.json").read_text("utf-8"))
            codes = folder / "chars.json"
            names = json.loads(codes.read_text("utf-8")) if codes.is_file() else {}
            self.name = str(self._icons["prefix"])
            self.licence = (
                f"{info['name']}, {info['author']['name']} ({info['author']['url']}), "
                f"{info['license']['title']} ({info['license']['url']})"
            )
            self._by_codes = {tuple(int(code, 16) for code in key.split("-")): name for key, name in names.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DrawingsError(f"{folder}: is not a package of drawings: {error!r}") from error

    def svg(self, codes: tuple[int, ...], name: str) -> str | None:
        """Return the drawing of an emoji, found by its code points or else by its name; None if there is none."""
        icons: Mapping[str, Any] = self._icons["icons"]
        found = self._by_codes.get(codes, slug(name))
        found = self._icons.get("aliases", {}).get(found, {}).get("parent", found)
        if (icon := icons.get(found)) is None:
            return None
        left, top, width, height = (
            icon.get(field, self._icons.get(field, default))
            for field, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )


def without_presentation(codes: Iterable[int]) -> tuple[int, ...]:
    """Return code points without those that ask for the colour form of the sign before them."""
    return tuple(code for code in codes if code != 0xFE0F)


def drawn(svg: str) -> Image.Image | None:
    """Draw an SVG text at 128 pixels with `rsvg-convert`; returns mode RGBA, or None if the program cannot draw it.

    Raises DrawingsError if there is no such program.
    """
    command = ["rsvg-convert", "--width", str(_DRAWN_SIDE), "--height", str(_DRAWN_SIDE), "--keep-aspect-ratio"]
    try:
        done = subprocess.run(command, input=svg.encode(), capture_output=True, check=True, timeout=60)
    except FileNotFoundError as error:
        raise DrawingsError("rsvg-convert: no such program; install Debian's package librsvg2-bin") from error
    except subprocess.SubprocessError:
        return None
    with Image.open(BytesIO(done.stdout), formats=["PNG"]) as picture:
        return picture.convert("RGBA")
