"""IDX, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist/).

Big-endian header: two zero bytes, the type (8 = unsigned byte), the number of dimensions, then each dimension as a
32-bit number; the values follow, last dimension fastest.
"""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.config import DatasetConfig
from model.datasets.dataset import DatasetError
from model.datasets.decoded import Decoded, check_decoded, check_size, numbered_class_names
from model.datasets.resize import square_images

_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8


def _file(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DatasetError(f"{folder / name}: no such file, nor with .gz")


def idx_files(config: DatasetConfig, path: Path) -> list[Path]:
    """The images and the labels file of the split in the folder `path`; raises DatasetError when one is missing."""
    prefix = _PREFIX[config.split]
    return [_file(path, f"{prefix}-images-idx3-ubyte"), _file(path, f"{prefix}-labels-idx1-ubyte")]


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of one IDX file of unsigned bytes with so many dimensions, gzipped if its name ends in .gz.

    Raises DatasetError on a wrong magic number, missing or surplus bytes, or damaged compression.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
                raise DatasetError(
                    f"{path}: magic number 0x{header[:4].hex()}, not 0x0000{_UNSIGNED_BYTE:02x}{dimensions:02x}"
                )
            if len(header) < 4 + 4 * dimensions:
                raise DatasetError(f"{path}: truncated in its header")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            check_size(prod(shape), str(path))
            content = file.read(prod(shape) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path}: damaged or truncated gzip: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error
    if len(content) != prod(shape):
        fault = "truncated" if len(content) < prod(shape) else "too long"
        raise DatasetError(f"{path}: {fault}: its header announces {prod(shape)} bytes of shape {shape}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def decode_idx(config: DatasetConfig, path: Path) -> Decoded:
    """Grey images (N, 1, H, W) from the folder `path`; classes are named by the configuration, else "0", "1", ...

    Raises DatasetError naming the file and its fault.
    """
    images_file, labels_file = idx_files(config, path)
    labels = read_idx(labels_file, 1)
    images = read_idx(images_file, 3)
    return check_decoded(
        square_images(images[:, None], config.image_size, str(images_file)),
        labels,
        numbered_class_names(labels, config.class_names, str(labels_file)),
        images_source=str(images_file),
        labels_source=str(labels_file),
    )
