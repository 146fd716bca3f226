"""Drawn images as one npz: `images` (N, H, W, C) uint8, `labels` (N,) int64, and `facts`, a JSON text."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from darkroom.model.checkpoint import write_atomically


@dataclass(frozen=True)
class Drawn:
    """Images in the order in which they were drawn: image i is of class i % classes.

    facts: what drew them, and everything that fixes them but their number.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    facts: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the npz, whole or not at all."""
        file = io.BytesIO()
        np.savez_compressed(file, images=self.images, labels=self.labels, facts=np.array(json.dumps(self.facts)))
        write_atomically(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Drawn":
        """Read an npz; nothing in it is unpickled."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["images"], file["labels"], json.loads(str(file["facts"])))

    def by_class(self, classes: int) -> npt.NDArray[np.uint8]:
        """(classes, n, H, W, C). Raises ValueError when the classes' numbers differ."""
        counts = np.bincount(self.labels, minlength=classes)
        if len(counts) != classes or (counts != counts[0]).any():
            raise ValueError(f"images a class: {counts.tolist()}; equally many of {classes} classes are needed")
        order = np.argsort(self.labels, kind="stable")
        return self.images[order].reshape(classes, -1, *self.images.shape[1:])
