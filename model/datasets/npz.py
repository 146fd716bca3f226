"""NumPy archives with the keys `images`, `labels` and, if the classes have names, `class_names`.

Nothing is unpickled: the decoder refuses arrays of objects by their headers. It also checks the sizes in the headers
before it decompresses anything.
"""

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import (
    MAX_CLASSES,
    Decoded,
    agreed_class_names,
    check_decoded,
    check_labels,
    check_size,
    numbered_class_names,
)
from darkroom.model.datasets.resize import narrowed, square_images
from darkroom.model.datasets.zip_archive import open_zip
from darkroom.model.progress import OnProgress, silent

MAX_CLASS_NAMES_BYTES = 16 * 2**20


_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size_bytes: int


def npz_files(config: DatasetConfig, path: Path) -> list[Path]:
    """Return the archive of the split: a file `path` is the train split; a folder holds train.npz and test.npz.

    Raises DatasetError when the split is missing.
    """
    if path.is_dir():
        path = path / f"{config.split}.npz"
    elif config.split == "test":
        raise DatasetError(f"{path}: one archive is the train split; for a test split give a folder with test.npz")
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    return [path]


def _header(archive: zipfile.ZipFile, key: str, source: str) -> _Header:
    try:
        info = archive.getinfo(f"{key}.npy")
    except KeyError as error:
        raise DatasetError(f"{source}: has no array called {key!r}") from error
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = _READERS.get(version)
        if read is None:
            raise DatasetError(f"{source}: {key}: npy version {version} is not known")
        try:
            shape, _, dtype = read(file)
        except Exception as error:  # NumPy reads the header as Python text, whose faults are of many kinds
            raise DatasetError(f"{source}: {key}: not a readable npy header: {error}") from error
        if dtype.hasobject:
            raise DatasetError(f"{source}: {key}: an array of Python objects is refused")
        size_bytes = prod(shape) * dtype.itemsize
        check_size(size_bytes, f"{source}: {key}")
        if file.tell() + size_bytes != info.file_size:
            raise DatasetError(f"{source}: {key}: {info.file_size} bytes, its header announces {size_bytes} of data")
    return _Header(shape, dtype, size_bytes)


def _channels_first(images: npt.NDArray[np.uint8], source: str) -> npt.NDArray[np.uint8]:
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        fault = "could be channels first or last" if first else "has no axis of 1 or 3 channels"
        raise DatasetError(f"{source}: images: shape {images.shape} {fault}")
    return images if first else images.transpose(0, 3, 1, 2)


def _numbers(labels: npt.NDArray[Any], source: str) -> npt.NDArray[np.integer]:
    """Return labels (N,) from (N,), (N, 1) or one-hot (N, K)."""
    if labels.ndim == 1 or labels.shape[1] == 1:
        return labels.reshape(-1)
    faulty = np.flatnonzero(((labels == 1).sum(axis=1) != 1) | ((labels == 0).sum(axis=1) != labels.shape[1] - 1))
    if faulty.size:
        raise DatasetError(f"{source}: labels: line {faulty[0]} is not one-hot: it needs a single 1 among zeros")
    numbers: npt.NDArray[np.integer] = labels.argmax(axis=1)
    return numbers


def _names(array: npt.NDArray[Any], source: str) -> tuple[str, ...]:
    try:
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in array.tolist())
    except (UnicodeDecodeError, SystemError) as error:  # NumPy raises SystemError for numbers that are no characters
        raise DatasetError(f"{source}: class_names: not text") from error


def _decode(config: DatasetConfig, path: Path, source: str, limits: ArchiveLimits, on_progress: OnProgress) -> Decoded:
    with open_zip(path, limits) as archive:
        named = "class_names.npy" in archive.namelist()
        images_header = _header(archive, "images", source)
        labels_header = _header(archive, "labels", source)
        names_header = _header(archive, "class_names", source) if named else None
    if images_header.dtype.kind != "u" or images_header.dtype.itemsize > 2 or len(images_header.shape) not in (3, 4):
        raise DatasetError(
            f"{source}: images: {images_header.dtype} of shape {images_header.shape}; "
            "uint8 or uint16 (N, H, W), (N, H, W, C) or (N, C, H, W) expected"
        )
    count, *more = labels_header.shape or (None,)
    one_hot = len(more) == 1 and more[0] > 1
    if (
        labels_header.dtype.kind not in ("iubf" if one_hot else "iu")
        or not (one_hot or more in ([], [1]))
        or count != images_header.shape[0]
    ):
        raise DatasetError(
            f"{source}: labels: {labels_header.dtype} of shape {labels_header.shape}; "
            f"integers of shape {images_header.shape[:1]}, or one-hot lines, expected"
        )
    if names_header is not None and (
        names_header.dtype.kind not in "SU"
        or len(names_header.shape) != 1
        or not 0 < names_header.size_bytes <= MAX_CLASS_NAMES_BYTES
        or names_header.shape[0] > MAX_CLASSES
    ):
        raise DatasetError(
            f"{source}: class_names: {names_header.dtype} of shape {names_header.shape}; "
            f"texts expected, at most {MAX_CLASSES} names and {MAX_CLASS_NAMES_BYTES} bytes"
        )
    images_source, labels_source = f"{source}: images", f"{source}: labels"
    with np.load(path) as arrays:
        labels = _numbers(arrays["labels"], source)
        if names_header is not None:
            class_names = agreed_class_names(_names(arrays["class_names"], source), config.class_names, source)
        else:
            class_names = numbered_class_names(labels, config.class_names, labels_source)
        count = images_header.shape[0]
        check_labels(labels, class_names, count, images_source=images_source, labels_source=labels_source)
        images = _channels_first(narrowed(arrays["images"]), source)
    return check_decoded(
        square_images(images, config.image_size, source, config.fit, config.ground, on_progress),
        labels,
        class_names,
        images_source=images_source,
        labels_source=labels_source,
    )


def decode_npz(config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress = silent) -> Decoded:
    """Decode images (N, C, H, W) from the archive of the split.

    The archive has `images`: uint8 or uint16 (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 or 3; `labels`: integers
    (N,) or (N, 1), or one-hot (N, K); `class_names`: texts. 16-bit values are divided by 257.
    The default for names is the configuration's, then "0", "1", ...
    Raises DatasetError naming the archive, the key and its fault.
    """
    (file,) = npz_files(config, path)
    try:
        return _decode(config, file, str(file), limits, on_progress)
    except DatasetError:
        raise
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise DatasetError(f"{file}: not a readable npz archive: {error}") from error
