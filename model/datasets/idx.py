"""IDX, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist/).

The big-endian header has two zero bytes, the type (8 = unsigned byte, 11 = 16 bits), the number of dimensions, then
each dimension as a 32-bit number. The values follow; the last dimension varies fastest. Values of 16 bits are read as
0..65535.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import (
    MAX_DECODED_BYTES,
    Decoded,
    check_decoded,
    check_labels,
    check_size,
    numbered_class_names,
)
from darkroom.model.datasets.members import Variant, member_files, read_members
from darkroom.model.datasets.resize import narrowed, square_images
from darkroom.model.progress import OnProgress, silent

_PREFIX = {"train": "train", "test": "t10k"}
_TYPES: dict[int, np.dtype[np.unsignedinteger[Any]]] = {8: np.dtype(np.uint8), 11: np.dtype(">u2")}


def _names(config: DatasetConfig) -> tuple[str, str]:
    prefix = _PREFIX[config.split]
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def _spellings(name: str) -> tuple[str, ...]:
    """Return the file names under which a file is found; some programs write `.idx3-ubyte` for `-idx3-ubyte`."""
    dotted = name.replace("-idx", ".idx")
    return name, f"{name}.gz", dotted, f"{dotted}.gz"


def _variants(config: DatasetConfig) -> list[Variant]:
    return list(zip(*map(_spellings, _names(config)), strict=True))


def _file(folder: Path, name: str) -> Path:
    for candidate in _spellings(name):
        if (folder / candidate).is_file():
            return folder / candidate
    raise DatasetError(f"{folder / name}: no such file, with or without .gz")


def idx_files(config: DatasetConfig, path: Path) -> list[Path]:
    """Return the archive `path`, or the images and the labels file of the split in the folder `path`.

    Raises DatasetError when one is missing.
    """
    if path.is_file():
        return member_files(path, _variants(config))
    return [_file(path, name) for name in _names(config)]


@dataclass(frozen=True)
class _Array:
    """An array whose header was read. file: stands at the first value."""

    file: IO[bytes]
    source: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.unsignedinteger[Any]]


@contextmanager
def _naming_damage(source: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{source}: damaged or truncated gzip: {error}") from error
    except OSError as error:
        raise DatasetError(f"{source}: {error.strerror}") from error


def _header(file: IO[bytes], dimensions: int, source: str, budget_bytes: int) -> _Array:
    """Read an array's header. dimensions: expected number. budget_bytes: the most bytes that it may unpack to.

    The file is gzipped if its name ends in .gz. Raises DatasetError for a wrong magic number or a header that is cut.
    """
    if source.endswith(".gz"):
        file = cast(IO[bytes], gzip.GzipFile(fileobj=file))
    with _naming_damage(source):
        header = file.read(4 + 4 * dimensions)
    known = {bytes((0, 0, number, dimensions)): dtype for number, dtype in _TYPES.items()}
    if header[:4] not in known:
        expected = " or ".join(f"0x{magic.hex()}" for magic in known)
        raise DatasetError(f"{source}: magic number 0x{header[:4].hex()}, not {expected}")
    if len(header) < 4 + 4 * dimensions:
        raise DatasetError(f"{source}: truncated in its header")
    shape, dtype = struct.unpack(f">{dimensions}I", header[4:]), known[header[:4]]
    check_size(prod(shape) * dtype.itemsize, source, budget_bytes)
    return _Array(file, source, shape, dtype)


def _values(array: _Array) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Read an array's values; raises DatasetError for missing or surplus bytes, or damaged compression."""
    size_bytes = prod(array.shape) * array.dtype.itemsize
    with _naming_damage(array.source):
        content = array.file.read(size_bytes + 1)
    if len(content) != size_bytes:
        fault = "truncated" if len(content) < size_bytes else "too long"
        text = f"{fault}: its header announces {size_bytes} bytes of shape {array.shape}"
        raise DatasetError(f"{array.source}: {text}")
    return np.frombuffer(content, dtype=array.dtype).reshape(array.shape)


def _open(path: Path, files: ExitStack) -> IO[bytes]:
    with _naming_damage(str(path)):
        return files.enter_context(path.open("rb"))


def decode_idx(config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress = silent) -> Decoded:
    """Decode grey images (N, 1, H, W) from the folder `path`, or a zip or tar archive of it.

    The configuration names the classes; the default is "0", "1", ... Raises DatasetError naming the file and its fault.
    """
    with ExitStack() as files:
        images_file: IO[bytes]
        labels_file: IO[bytes]
        if path.is_file():
            members = read_members(path, _variants(config), limits)
            images_name, labels_name = sorted(members)
            images_source, labels_source = f"{path}: {images_name}", f"{path}: {labels_name}"
            images_file, labels_file = BytesIO(members[images_name]), BytesIO(members[labels_name])
            # what lies in a .gz inside the archive counts as unpacked from the archive too
            budget = limits.unpacked_bytes(path.stat().st_size) - sum(map(len, members.values()))
        else:
            images_path, labels_path = idx_files(config, path)
            images_source, labels_source = str(images_path), str(labels_path)
            images_file, labels_file = _open(images_path, files), _open(labels_path, files)
            budget = MAX_DECODED_BYTES
        labels = _values(_header(labels_file, 1, labels_source, budget))
        header = _header(images_file, 3, images_source, budget - labels.nbytes)
        names = numbered_class_names(labels, config.class_names, labels_source)
        check_labels(labels, names, header.shape[0], images_source=images_source, labels_source=labels_source)
        images = _values(header)
    return check_decoded(
        square_images(
            narrowed(images[:, None]), config.image_size, images_source, config.fit, config.ground, on_progress
        ),
        labels,
        names,
        images_source=images_source,
        labels_source=labels_source,
    )
