"""CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html), python and binary version, as archive or folder.

An image is 1024 red, 1024 green and 1024 blue bytes, each row by row. The python version's pickles are read as data
and never unpickled (`model/datasets/plain_pickle.py`).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.config import DatasetConfig
from model.datasets.archive_limits import ArchiveLimits
from model.datasets.dataset import DatasetError
from model.datasets.decoded import Decoded, agreed_class_names, check_decoded
from model.datasets.members import Variant, member_files, read_members
from model.datasets.plain_pickle import read_plain_dict
from model.datasets.resize import square_images

CLASSES = 10
SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
RECORD_BYTES = 1 + PIXEL_BYTES

_BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
_PYTHON_META = "batches.meta"
_BINARY_META = "batches.meta.txt"

_Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def _variants(config: DatasetConfig) -> tuple[Variant, Variant]:
    batches = _BATCHES[config.split]
    return (*batches, _PYTHON_META), (*(f"{name}.bin" for name in batches), _BINARY_META)


def cifar10_files(config: DatasetConfig, path: Path) -> list[Path]:
    """The files that `decode_cifar10` reads; raises DatasetError when one is missing."""
    return member_files(path, _variants(config))


def _python_batch(content: bytes, images_per_batch: object, source: str) -> _Batch:
    batch = read_plain_dict(content, source)
    images, labels = batch.get("data"), batch.get("labels")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2:
        raise DatasetError(f"{source}: has no array of bytes called 'data'")
    if images.shape[1] != PIXEL_BYTES:
        raise DatasetError(f"{source}: images of {images.shape[1]} bytes, not {PIXEL_BYTES}")
    if not isinstance(labels, list):
        raise DatasetError(f"{source}: has no list called 'labels'")
    numbers = [label for label in labels if isinstance(label, int) and 0 <= label < CLASSES]
    if len(numbers) != len(labels):
        raise DatasetError(f"{source}: a label is not a number in 0..{CLASSES - 1}")
    if len(labels) != len(images):
        raise DatasetError(f"{source}: {len(labels)} labels for {len(images)} images")
    if images_per_batch is not None and images_per_batch != len(images):
        raise DatasetError(f"{source}: {len(images)} images; {_PYTHON_META} announces {images_per_batch}")
    return images, np.array(numbers, dtype=np.int64)


def _binary_batch(content: bytes, source: str) -> _Batch:
    if not content or len(content) % RECORD_BYTES:
        raise DatasetError(f"{source}: {len(content)} bytes are not whole records of {RECORD_BYTES}; truncated?")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= CLASSES:
        raise DatasetError(f"{source}: label {labels.max()} is not in 0..{CLASSES - 1}")
    return records[:, 1:], labels


def _python_names(meta: dict[str, object], source: str) -> tuple[str, ...]:
    names = meta.get("label_names")
    if not isinstance(names, list):
        raise DatasetError(f"{source}: has no list called 'label_names'")
    try:
        return tuple(name.decode() if isinstance(name, bytes) else _text(name) for name in names)
    except ValueError as error:
        raise DatasetError(f"{source}: a label name is not text") from error


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError("not text")
    return name


def _binary_names(content: bytes, source: str) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in content.decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DatasetError(f"{source}: not text") from error


def decode_cifar10(config: DatasetConfig, path: Path, limits: ArchiveLimits) -> Decoded:
    """Colour images (N, 3, 32, 32), or of side `image_size`, from an archive (.tar.gz or zip) or its folder.

    Raises DatasetError naming the member and its fault; a train split lacks nothing only with all five batches, of
    equal length.
    """
    members = read_members(path, _variants(config), limits)
    batches: list[_Batch] = []
    if _PYTHON_META in members:
        meta_source = f"{path}: {_PYTHON_META}"
        meta = read_plain_dict(members[_PYTHON_META], meta_source)
        names = _python_names(meta, meta_source)
        announced = meta.get("num_cases_per_batch")
        for name in _BATCHES[config.split]:
            batches.append(_python_batch(members[name], announced, f"{path}: {name}"))
    else:
        meta_source = f"{path}: {_BINARY_META}"
        names = _binary_names(members[_BINARY_META], meta_source)
        for name in _BATCHES[config.split]:
            batches.append(_binary_batch(members[f"{name}.bin"], f"{path}: {name}.bin"))
    if len(names) != CLASSES:
        raise DatasetError(f"{meta_source}: {len(names)} class names, not {CLASSES}")
    for name, (images, _) in zip(_BATCHES[config.split], batches, strict=True):
        if len(images) != len(batches[0][0]):
            raise DatasetError(f"{path}: {name} has {len(images)} images, other batches {len(batches[0][0])}")
    pixels = np.concatenate([images for images, _ in batches]).reshape(-1, 3, SIDE, SIDE)
    return check_decoded(
        square_images(pixels, config.image_size, str(path)),
        np.concatenate([labels for _, labels in batches]),
        agreed_class_names(names, config.class_names, meta_source),
        images_source=str(path),
        labels_source=str(path),
    )
