"""The training curve of a run as a table, `losses.csv`, and the loss as a picture."""

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

_FIELDS = tuple(field.name for field in fields(CurvePoint) if field.name not in ("memory_bytes", "seconds_left"))


class LossLog:
    """Writes `losses.csv`, one line for each curve point; resuming drops incomplete lines and those after the state."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, images_seen: int) -> None:
        """Keep the complete lines up to `images_seen`, or create the file."""
        kept = (
            [line for line in self._lines() if int(line["images_seen"]) <= images_seen] if self._path.exists() else []
        )
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
        """Write the loss curve as PNG; writes nothing when the table has no line."""
        lines = self._lines()
        if lines:
            images_seen = np.array([float(line["images_seen"]) for line in lines])
            write_atomically(path, loss_curve(images_seen, np.array([float(line["loss"]) for line in lines]), title))

    def _lines(self) -> list[dict[str, str]]:
        with self._path.open(newline="") as file:
            return [line for line in csv.DictReader(file) if _is_complete(line)]


def _is_complete(line: Mapping[str, str]) -> bool:
    try:
        int(line["images_seen"])
        return all(math.isfinite(float(line[name])) for name in _FIELDS)
    except (KeyError, TypeError, ValueError):
        return False
