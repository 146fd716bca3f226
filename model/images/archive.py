"""Many images as one file: npz or zip, written image by image, with the facts that reproduce the images.

Equal images and facts give equal bytes, because no time is written. Memory holds only the class and index of added
images, and the directory that every zip file needs.
"""

import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Literal, Self

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from darkroom.model.images.described_png import described_png
from darkroom.model.images.pictures import Pixels

ArchiveFormat = Literal["npz", "zip"]
Integers = npt.NDArray[np.int64]

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can store for a member."""


class ImageArchive(ABC):
    """An archive under construction. `finish` completes it; leaving the context without `finish` abandons it."""

    @abstractmethod
    def add(self, images: Pixels, class_indices: Integers, indices: Integers) -> None:
        """Append images (N, H, W, C) uint8. class_indices, indices: (N,); with the facts they reproduce each image."""

    @abstractmethod
    def finish(self) -> None:
        """Write the end of the archive; the file stays open."""

    @abstractmethod
    def close(self) -> None:
        """Release the file; does nothing after `finish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True)
class ArchiveFacts:
    """The facts that an archive states of its images, as JSON values.

    shared: facts of every image; with its class and index they reproduce it; has `seed`.
    request: facts of the archive as a whole, such as its list of classes; a zip does not repeat them in every image.
    class_names: by class index.
    """

    shared: Mapping[str, Any]
    request: Mapping[str, Any]
    class_names: Mapping[int, str]

    @property
    def all(self) -> dict[str, Any]:
        """`shared` and `request` together."""
        return dict(self.shared) | dict(self.request)


def image_archive(
    wanted: ArchiveFormat, file: BinaryIO, facts: ArchiveFacts, *, images: int, image_shape: tuple[int, int, int]
) -> ImageArchive:
    """Begin an archive in `file`, which must be seekable. images: how many will be added; image_shape: (H, W, C)."""
    return NpzArchive(file, facts, images, image_shape) if wanted == "npz" else ZipArchive(file, facts)


class NpzArchive(ImageArchive):
    """Writes an npz file, which `numpy.load` reads without pickle.

    Its arrays are images (N, H, W, C) uint8, labels, seeds and indices (N,) int64, and facts, a JSON string.
    """

    def __init__(self, file: BinaryIO, facts: ArchiveFacts, images: int, image_shape: tuple[int, int, int]) -> None:
        self._facts = facts
        self._expected = images
        self._labels: list[Integers] = []
        self._indices: list[Integers] = []
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._images = self._member("images")
        header = {"descr": "|u1", "fortran_order": False, "shape": (images, *image_shape)}
        npy.write_array_header_1_0(self._images, header)

    def add(self, images: Pixels, class_indices: Integers, indices: Integers) -> None:
        """See `ImageArchive.add`."""
        self._images.write(np.ascontiguousarray(images).data)
        self._labels.append(class_indices)
        self._indices.append(indices)

    def finish(self) -> None:
        """See `ImageArchive.finish`; raises ValueError when the number of added images is not the announced one."""
        self._images.close()
        labels, indices = np.concatenate(self._labels), np.concatenate(self._indices)
        if len(labels) != self._expected:
            raise ValueError(f"{len(labels)} images instead of {self._expected}")
        arrays: Mapping[str, npt.NDArray[Any]] = {
            "labels": labels,
            "seeds": np.full(len(labels), self._facts.shared["seed"], dtype=np.int64),
            "indices": indices,
            "facts": np.array(json.dumps(self._facts.all)),
        }
        for name, array in arrays.items():
            with self._member(name) as member:
                npy.write_array(member, array, allow_pickle=False)
        self._zip.close()

    def close(self) -> None:
        """See `ImageArchive.close`."""
        self._images.close()
        self._zip.close()

    def _member(self, name: str) -> IO[bytes]:
        return self._zip.open(_entry(f"{name}.npy", zipfile.ZIP_DEFLATED), "w", force_zip64=True)


class ZipArchive(ImageArchive):
    """Writes a zip file: a PNG for each image, with its facts inside, and manifest.json, which describes every PNG."""

    def __init__(self, file: BinaryIO, facts: ArchiveFacts) -> None:
        self._facts = facts
        self._numbers: list[tuple[Integers, Integers]] = []
        self._count = 0
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)

    def add(self, images: Pixels, class_indices: Integers, indices: Integers) -> None:
        """See `ImageArchive.add`."""
        numbers = enumerate(zip(class_indices.tolist(), indices.tolist(), strict=True), self._count)
        for image, (number, (class_index, index)) in zip(images, numbers, strict=True):
            shown = self._shown(class_index, index)
            entry = _entry(_file_name(number, class_index, index), zipfile.ZIP_STORED)
            self._zip.writestr(entry, described_png(image, dict(self._facts.shared) | shown))
        self._numbers.append((class_indices, indices))
        self._count += len(images)

    def finish(self) -> None:
        """See `ImageArchive.finish`."""
        with self._zip.open(_entry("manifest.json", zipfile.ZIP_STORED), "w", force_zip64=True) as member:
            head = json.dumps(self._facts.all, indent=2).removesuffix("\n}")
            member.write(f'{head},\n  "images": ['.encode())
            separator = "\n"
            for entries in self._entries():
                text = ",\n".join("    " + json.dumps(entry) for entry in entries)
                member.write((separator + text).encode())
                separator = ",\n"
            member.write(b"\n  ]\n}\n")
        self._zip.close()

    def close(self) -> None:
        """See `ImageArchive.close`."""
        self._zip.close()

    def _shown(self, class_index: int, index: int) -> dict[str, Any]:
        return {"index": index, "class": self._facts.class_names[class_index], "class_index": class_index}

    def _entries(self) -> Iterator[list[dict[str, Any]]]:
        number = 0
        for class_indices, indices in self._numbers:
            entries = []
            for class_index, index in zip(class_indices.tolist(), indices.tolist(), strict=True):
                entries.append({"file": _file_name(number, class_index, index)} | self._shown(class_index, index))
                number += 1
            yield entries


def _file_name(number: int, class_index: int, index: int) -> str:
    return f"{number:05d}-class{class_index}-index{index}.png"


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.compress_type = compression
    entry.external_attr = 0o644 << 16  # so that users can read what they unpack
    return entry
