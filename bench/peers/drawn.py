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
    """Images in the order of drawing: image i is of class i % classes.

    facts: the contender, the settings and the seed, which together fix every image.
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
        """Return (classes, n, H, W, C). Raises ValueError when the classes have different numbers of images."""
        counts = np.bincount(self.labels, minlength=classes)
        if len(counts) != classes or (counts != counts[0]).any():
            raise ValueError(f"the classes have {counts.tolist()} images; all {classes} classes need the same number")
        order = np.argsort(self.labels, kind="stable")
        return self.images[order].reshape(classes, -1, *self.images.shape[1:])
