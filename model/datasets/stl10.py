"""STL-10, binary version (https://cs.stanford.edu/~acoates/stl10/), as archive or folder.

An image is 96x96 red, green and blue bytes, each column by column; labels are 1..10.
"""

from pathlib import Path

import numpy as np

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import Decoded, agreed_class_names, check_decoded, check_labels
from darkroom.model.datasets.members import Variant, member_files, read_members
from darkroom.model.datasets.resize import square_images
from darkroom.model.progress import OnProgress, silent

CLASSES = 10
SIDE = 96
IMAGE_BYTES = 3 * SIDE * SIDE
DEFAULT_IMAGE_SIZE = 32

_NAMES = "class_names.txt"


def _variants(config: DatasetConfig) -> tuple[Variant]:
    return ((f"{config.split}_X.bin", f"{config.split}_y.bin", _NAMES),)


def stl10_files(config: DatasetConfig, path: Path) -> list[Path]:
    """Return the files that `decode_stl10` reads; raises DatasetError when one is missing."""
    return member_files(path, _variants(config))


def decode_stl10(config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress = silent) -> Decoded:
    """Decode colour images (N, 3, S, S) with S = `image_size`, default 32; 96 keeps the published size.

    `square_images` reduces them. Raises DatasetError naming the member and its fault.
    """
    members = read_members(path, _variants(config), limits)
    images_source, labels_source = f"{path}: {config.split}_X.bin", f"{path}: {config.split}_y.bin"
    content = members[f"{config.split}_X.bin"]
    if not content or len(content) % IMAGE_BYTES:
        raise DatasetError(
            f"{images_source}: {len(content)} bytes are not whole images of {IMAGE_BYTES} bytes; truncated?"
        )
    columns_first = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3, SIDE, SIDE)
    images = columns_first.transpose(0, 1, 3, 2)
    published = np.frombuffer(members[f"{config.split}_y.bin"], dtype=np.uint8).astype(np.int64)
    if published.size and not (published.min() >= 1 and published.max() <= CLASSES):
        raise DatasetError(f"{labels_source}: labels {published.min()}..{published.max()} are not in 1..{CLASSES}")
    if len(published) != len(images):
        raise DatasetError(f"{labels_source}: {len(published)} labels for {len(images)} images")
    try:
        names = tuple(line.strip() for line in members[_NAMES].decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: {_NAMES}: not text") from error
    if len(names) != CLASSES:
        raise DatasetError(f"{path}: {_NAMES}: {len(names)} class names, not {CLASSES}")
    labels, agreed = published - 1, agreed_class_names(names, config.class_names, f"{path}: {_NAMES}")
    check_labels(labels, agreed, len(images), images_source=images_source, labels_source=labels_source)
    side = config.image_size or DEFAULT_IMAGE_SIZE
    squares = square_images(images, side, images_source, on_progress=on_progress)
    return check_decoded(squares, labels, agreed, images_source=images_source, labels_source=labels_source)
