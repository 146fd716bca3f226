"""The common form of every data set: a memory-mapped uint8 array with labels and class names."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from darkroom.model.user_error import UserError


class DatasetError(UserError, ValueError):
    """A data set that cannot be used; the message names the file and its fault."""


@dataclass(frozen=True)
class ImageDataset:
    """Labelled square images.

    images: (N, C, H, W) uint8, C = 1 or 3, H = W, usually a read-only memory map.
    labels: (N,) int64, each in 0..len(class_names) - 1.
    digest: "sha256:..." over shape, class names, labels and pixels; equal content gives an equal digest.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    digest: str

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The number of images of each class."""
        return tuple(int(count) for count in np.bincount(self.labels, minlength=len(self.class_names)))

    def __len__(self) -> int:
        return len(self.images)
