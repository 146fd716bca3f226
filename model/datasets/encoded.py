"""A decoded data set as one file, which workers fetch: safetensors with `images`, `labels` and class names.

This module writes and reads in pieces, because safetensors' own functions copy everything in memory. Equal content
gives equal bytes. The header repeats the content's digest; reading checks the content against it.
"""

import json
import os
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from darkroom.model.config import Config
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import Decoded, check_decoded, check_size
from darkroom.model.datasets.materialise import content_digest

_HEADER_KEY = "darkroom"
_MAX_HEADER_BYTES = 64 * 2**20
_ALIGNMENT_BYTES = 8
_DTYPES: dict[str, tuple[str, np.dtype[Any], int]] = {
    "images": ("U8", np.dtype(np.uint8), 4),
    "labels": ("I64", np.dtype("<i8"), 1),
}
"""Name -> type in the file, NumPy's name for it, number of dimensions."""


class EncodedHeader(Config):
    """The metadata in the file's header. digest: of the content, as `ImageDataset.digest`."""

    format_version: int = Field(1, ge=1, le=1)
    class_names: tuple[str, ...]
    digest: str


def encode(decoded: Decoded, file: BinaryIO) -> str:
    """Write the data set to `file` and return its digest. Errors of the file are passed on."""
    digest = content_digest(decoded.images, decoded.labels, decoded.class_names)
    arrays = {"images": decoded.images, "labels": decoded.labels.astype("<i8", copy=False)}
    header: dict[str, Any] = {
        "__metadata__": {
            _HEADER_KEY: EncodedHeader(
                format_version=1, class_names=decoded.class_names, digest=digest
            ).model_dump_json()
        }
    }
    offset = 0
    for name in ("labels", "images"):  # the wider type first, so that it is aligned
        array = arrays[name]
        header[name] = {
            "dtype": _DTYPES[name][0],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in ("labels", "images"):
        file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest


def decode(file: BinaryIO, digest: str, source: str) -> Decoded:
    """Read the data set of that digest from a file on disk, from its start.

    Raises DatasetError naming `source` when the file is damaged, not an encoded data set, or holds another one.
    """
    header, start = _header(file, source)
    stated = _stated(header, source)
    if stated.digest != digest:
        raise DatasetError(f"{source}: holds the data set {stated.digest}, not {digest}")
    labels = _array(file, header, "labels", start, source)
    images = _array(file, header, "images", start, source)
    decoded = check_decoded(
        images, labels, stated.class_names, images_source=f"{source}: images", labels_source=f"{source}: labels"
    )
    if content_digest(decoded.images, decoded.labels, decoded.class_names) != digest:
        raise DatasetError(f"{source}: damaged: its content does not have the digest that it states")
    return decoded


class EncodedPieces:
    """An encoded data set of which single images are read.

    read: (start, size) -> bytes. Damage goes unnoticed: only `decode` checks the digest. Raises DatasetError.
    """

    def __init__(self, read: Callable[[int, int], bytes], source: str) -> None:
        size = int.from_bytes(read(0, 8), "little")
        header = _parsed(read(8, min(size, _MAX_HEADER_BYTES)), source)
        self._read, self._images_start = read, 8 + size + header["images"]["data_offsets"][0]
        self._shape = tuple(header["images"]["shape"])
        first, last = header["labels"]["data_offsets"]
        self.labels: npt.NDArray[np.int64] = np.frombuffer(read(8 + size + first, last - first), "<i8").astype(np.int64)

    def images(self, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Return images (N, C, S, S). Neighbours are read together."""
        found = np.empty((len(indices), *self._shape[1:]), dtype=np.uint8)
        size = prod(self._shape[1:])
        place = 0
        for run in np.split(np.asarray(indices), np.flatnonzero(np.diff(indices) != 1) + 1):
            if len(run):
                content = self._read(self._images_start + int(run[0]) * size, len(run) * size)
                found[place : place + len(run)] = np.frombuffer(content, np.uint8).reshape(-1, *self._shape[1:])
                place += len(run)
        return found


def _header(file: BinaryIO, source: str) -> tuple[dict[str, Any], int]:
    """Return the file's header, and the position where its data begin, in bytes."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= _MAX_HEADER_BYTES:
        raise DatasetError(f"{source}: not an encoded data set: its header claims {length} bytes")
    return _parsed(file.read(length), source), 8 + length


def _parsed(text: bytes, source: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: not an encoded data set, or truncated: {error}") from error
    if not isinstance(header, dict):
        raise DatasetError(f"{source}: not an encoded data set")
    return header


def _stated(header: dict[str, Any], source: str) -> EncodedHeader:
    try:
        return EncodedHeader.model_validate_json(header["__metadata__"][_HEADER_KEY])
    except (KeyError, TypeError, ValidationError) as error:
        raise DatasetError(f"{source}: not an encoded data set: {error}") from error


def _array(file: BinaryIO, header: dict[str, Any], name: str, start: int, source: str) -> npt.NDArray[Any]:
    kind, dtype, dimensions = _DTYPES[name]
    try:
        shape = [int(side) for side in header[name]["shape"]]
        first, last = header[name]["data_offsets"]
        fits = (
            header[name]["dtype"] == kind
            and len(shape) == dimensions
            and min(shape) >= 0
            and first >= 0
            and last - first == prod(shape) * dtype.itemsize
            and start + last <= os.fstat(file.fileno()).st_size
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{source}: not an encoded data set: {name}: {error}") from error
    if not fits:
        raise DatasetError(f"{source}: {name}: truncated, or not {kind} of {dimensions} dimensions: {header[name]}")
    check_size(last - first, f"{source}: {name}")
    file.seek(start + first)
    values: npt.NDArray[Any] = np.fromfile(file, dtype=dtype, count=prod(shape))
    return values.reshape(shape)
