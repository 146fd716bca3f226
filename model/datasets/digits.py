"""The 1,797 bundled 8x8 digits of scikit-learn (`sklearn.datasets.load_digits`)."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import Decoded, check_decoded
from darkroom.model.datasets.resize import square_images
from darkroom.model.extras import import_extra
from darkroom.model.progress import OnProgress, silent

TEST_IMAGES = 297
"""The test split is the last 297 images, the train split the 1,500 before them."""

LEVELS = 16
"""Published pixel values are 0..LEVELS."""


def _published() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    digits = import_extra("sklearn.datasets", "digits", DatasetError).load_digits()  # imported here because it is slow
    return digits.images, digits.target


def digits_files(config: DatasetConfig, path: Path | None) -> list[Path]:
    """Return no files: the images come with scikit-learn. Raises DatasetError when a path is given."""
    if path is not None:
        raise DatasetError(f"{path}: the bundled digits have no path; leave it out")
    return []


def decode_digits(
    config: DatasetConfig, path: Path | None, limits: ArchiveLimits, on_progress: OnProgress = silent
) -> Decoded:
    """Decode grey images (N, 1, 8, 8), or of side `image_size`; values 0..16 are scaled to 0..255 and rounded.

    The test split is the last 297 images, the train split all others. Classes are "0".."9" unless configured.
    Raises DatasetError when scikit-learn is not installed.
    """
    digits_files(config, path)
    values, labels = _published()
    images = np.rint(values * (255 / LEVELS)).astype(np.uint8)[:, None]
    part = slice(None, -TEST_IMAGES) if config.split == "train" else slice(-TEST_IMAGES, None)
    return check_decoded(
        square_images(images[part], config.image_size, "digits", on_progress=on_progress),
        labels[part],
        config.class_names or tuple(str(digit) for digit in range(10)),
        images_source="digits",
        labels_source="digits",
    )
