"""CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html), binary version, as archive or folder.

An image is 1024 red, 1024 green and 1024 blue bytes, each row by row. The python version holds pickles, which can run
programs and are never read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import Decoded, agreed_class_names, check_decoded, check_labels
from darkroom.model.datasets.members import MembersMissing, Variant, member_files, read_members
from darkroom.model.datasets.resize import square_images
from darkroom.model.progress import OnProgress, silent

CLASSES = 10
SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
RECORD_BYTES = 1 + PIXEL_BYTES

_BATCHES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_NAMES = "batches.meta.txt"

_Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def _variants(config: DatasetConfig) -> tuple[Variant]:
    return ((*_BATCHES[config.split], _NAMES),)


@contextmanager
def _naming_the_version() -> Iterator[None]:
    """Add to an error about missing members which version is needed, as most tools download the python version."""
    try:
        yield
    except MembersMissing as error:
        raise DatasetError(f"{error}; use the binary version of CIFAR-10 (cifar-10-binary.tar.gz)") from error


def cifar10_files(config: DatasetConfig, path: Path) -> list[Path]:
    """Return the files that `decode_cifar10` reads; raises DatasetError when one is missing."""
    with _naming_the_version():
        return member_files(path, _variants(config))


def _batch(content: bytes, source: str) -> _Batch:
    if not content or len(content) % RECORD_BYTES:
        raise DatasetError(f"{source}: {len(content)} bytes are not whole records of {RECORD_BYTES}; truncated?")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= CLASSES:
        raise DatasetError(f"{source}: label {labels.max()} is not in 0..{CLASSES - 1}")
    return records[:, 1:], labels


def _class_names(content: bytes, source: str) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in content.decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DatasetError(f"{source}: not text") from error


def decode_cifar10(
    config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress = silent
) -> Decoded:
    """Decode colour images (N, 3, 32, 32), or of side `image_size`, from an archive (.tar.gz or zip) or its folder.

    Raises DatasetError naming the member and its fault. A train split needs all five batches, of equal length.
    """
    with _naming_the_version():
        members = read_members(path, _variants(config), limits)
    names_source = f"{path}: {_NAMES}"
    names = _class_names(members[_NAMES], names_source)
    batches = [_batch(members[name], f"{path}: {name}") for name in _BATCHES[config.split]]
    if len(names) != CLASSES:
        raise DatasetError(f"{names_source}: {len(names)} class names, not {CLASSES}")
    for name, (images, _) in zip(_BATCHES[config.split], batches, strict=True):
        if len(images) != len(batches[0][0]):
            raise DatasetError(f"{path}: {name} has {len(images)} images, other batches {len(batches[0][0])}")
    agreed = agreed_class_names(names, config.class_names, names_source)
    labels = np.concatenate([labels for _, labels in batches])
    check_labels(labels, agreed, len(labels), images_source=str(path), labels_source=str(path))
    pixels = np.concatenate([images for images, _ in batches]).reshape(-1, 3, SIDE, SIDE)
    images = square_images(pixels, config.image_size, str(path), on_progress=on_progress)
    return check_decoded(images, labels, agreed, images_source=str(path), labels_source=str(path))
