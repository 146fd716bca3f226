"""The loss of a run as a table and as a picture: `losses.csv` and the curve drawn from it."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from darkroom.model.checkpoint import write_atomically
from darkroom.model.images.pictures import loss_curve
from darkroom.model.training.curve_point import CurvePoint

_FIELDS = tuple(field.name for field in fields(CurvePoint) if field.name != "memory_bytes")


class LossLog:
    """`losses.csv`: a line per report of progress; on resuming, torn lines and those after the state are dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, images_seen: int) -> None:
        """Keep the whole lines up to `images_seen`, or make the file."""
        kept = [row for row in self._rows() if int(row["images_seen"]) <= images_seen] if self._path.exists() else []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _FIELDS)
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(self._path, text.getvalue().encode())

    def append(self, point: CurvePoint) -> None:
        """Add one line."""
        values = [getattr(point, name) for name in _FIELDS]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([value if isinstance(value, int) else f"{value:.6g}" for value in values])

    def draw(self, path: Path, title: str) -> None:
        """Write the curve as PNG; nothing when no line was written yet."""
        rows = self._rows()
        if rows:
            images_seen = np.array([float(row["images_seen"]) for row in rows])
            write_atomically(path, loss_curve(images_seen, np.array([float(row["loss"]) for row in rows]), title))

    def _rows(self) -> list[dict[str, str]]:
        with self._path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if _is_whole(row)]


def _is_whole(row: Mapping[str, str]) -> bool:
    try:
        int(row["images_seen"])
        return all(math.isfinite(float(row[name])) for name in _FIELDS)
    except (KeyError, TypeError, ValueError):
        return False
