"""The result of a format's decoder: arrays in memory, checked before anything is written."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from darkroom.model.class_names import listed
from darkroom.model.datasets.dataset import DatasetError

MAX_DECODED_BYTES = 4 * 2**30
"""Most bytes of an array that a decoder builds in memory, and of all members that it reads.

A few compressed megabytes can claim terabytes.
"""

MAX_CLASSES = 100_000
MAX_CLASS_NAME = 200
"""Characters of the longest name of a class."""
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of characters of two parts."""


@dataclass(frozen=True)
class SplitFolder:
    """A folder `train`, `test` or `val` with class folders. used: its images are in the data set."""

    folder: str
    images: int
    used: bool


@dataclass(frozen=True)
class Reading:
    """The files beside the images of a data set in class folders.

    junk: the places of files that are no pictures. damaged: the faults of pictures that were left out.
    """

    junk: frozenset[str] = frozenset()
    damaged: tuple[str, ...] = ()
    splits: tuple[SplitFolder, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """Labelled images in memory.

    images: (N, C, H, W) uint8, C-contiguous, N > 0, C = 1 or 3, H = W.
    labels: (N,) int64, each in 0..len(class_names) - 1.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    reading: Reading = Reading()


class SizesDiffer(DatasetError):
    """Pictures of several sizes, not square, or too many for their side, while no side is given.

    shorter_side: the median of all pictures'. damaged: some other files are no pictures that can be read.
    """

    def __init__(self, message: str, shorter_side: int, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.shorter_side = shorter_side
        self.damaged = damaged


def check_size(size_bytes: int, source: str, most: int = MAX_DECODED_BYTES) -> None:
    """Raise DatasetError when contents of `size_bytes` are larger than a decoder may build."""
    most = min(most, MAX_DECODED_BYTES)
    if size_bytes > most:
        raise DatasetError(f"{source}: claims {size_bytes} bytes; at most {most} are decoded")


def check_labels(
    labels: npt.NDArray[np.integer], class_names: tuple[str, ...], count: int, *, images_source: str, labels_source: str
) -> None:
    """Check the labels of `count` images, and the names of their classes. Decoders call it before they read pixels.

    Raises DatasetError when there are no images, the counts differ, a label is out of range, or a class name is empty,
    too long, not text, or given twice.
    """
    if count == 0:
        raise DatasetError(f"{images_source}: holds no images")
    if labels.shape != (count,):
        raise DatasetError(f"{labels_source}: {labels.size} labels for the {count} images of {images_source}")
    if len(class_names) > MAX_CLASSES:
        raise DatasetError(f"{labels_source}: {len(class_names)} classes are more than {MAX_CLASSES}")
    for name, times in Counter(class_names).items():
        if not name.strip():
            raise DatasetError(f"{labels_source}: a class name is empty")
        if len(name) > MAX_CLASS_NAME:
            text = f"the class name {name[:40]!r}... has {len(name)} characters, more than {MAX_CLASS_NAME}"
            raise DatasetError(f"{labels_source}: {text}")
        if _NO_TEXT.search(name):
            raise DatasetError(f"{labels_source}: the class name {name!r} holds control characters or is not text")
        if times > 1:
            raise DatasetError(f"{labels_source}: the class name {name!r} is given twice")
    outside = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if outside.size:
        first = int(outside[0])
        raise DatasetError(
            f"{labels_source}: label {int(labels[first])} of image {first} is not in 0..{len(class_names) - 1}"
        )


def check_decoded(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    class_names: tuple[str, ...],
    *,
    images_source: str,
    labels_source: str,
    reading: Reading = Reading(),
) -> Decoded:
    """Bring a decoder's arrays into the common form.

    images: (N, C, H, W) uint8; labels: (N,) of any integer type. Errors name the two sources.
    Raises DatasetError when there are no images, they are not square grey or RGB, and for the faults that
    `check_labels` finds.
    """
    if images.ndim != 4 or images.shape[0] == 0 or 0 in images.shape:
        raise DatasetError(f"{images_source}: holds no images")
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise DatasetError(f"{images_source}: images have {channels} channels; only 1 (grey) and 3 (RGB) are known")
    if height != width:
        text = f"{images_source}: images are {width}x{height}, not square; set image_size to crop them"
        raise SizesDiffer(text, min(width, height))
    check_labels(labels, class_names, count, images_source=images_source, labels_source=labels_source)
    return Decoded(np.ascontiguousarray(images), labels.astype(np.int64), class_names, reading)


def joined(first: Decoded, second: Decoded, source: str) -> Decoded:
    """Concatenate two data sets, `first` before `second`.

    Raises DatasetError naming `source` when classes or shapes differ.
    """
    if first.class_names != second.class_names:
        raise DatasetError(
            f"{source}: its splits' classes differ: one has {listed(first.class_names)}, the other "
            f"{listed(second.class_names)}"
        )
    shapes = first.images.shape[1:], second.images.shape[1:]
    if shapes[0] != shapes[1]:
        raise DatasetError(f"{source}: its splits' images are {shapes[0]} and {shapes[1]} (C, H, W)")
    images, labels = (first.images, second.images), (first.labels, second.labels)
    check_size(sum(part.nbytes for part in images), source)
    return Decoded(
        np.concatenate(images), np.concatenate(labels), first.class_names, _joined(first.reading, second.reading)
    )


def _joined(first: Reading, second: Reading) -> Reading:
    return Reading(
        first.junk | second.junk,
        first.damaged + second.damaged,
        tuple(one if one.used else other for one, other in zip(first.splits, second.splits, strict=True)),
    )


def agreed_class_names(carried: tuple[str, ...], configured: tuple[str, ...] | None, source: str) -> tuple[str, ...]:
    """Return the names that a format carries; raises DatasetError when the configuration contradicts them."""
    if configured is not None and configured != carried:
        raise DatasetError(f"{source}: its classes are {listed(carried)}, not class_names {listed(configured)}")
    return carried


def numbered_class_names(
    labels: npt.NDArray[np.integer], configured: tuple[str, ...] | None, source: str
) -> tuple[str, ...]:
    """Return the configured names, else "0", "1", ... up to the largest label. labels: (N,).

    Raises DatasetError when the largest label would mean more than MAX_CLASSES classes, or a smaller one has no image.
    """
    if configured is not None:
        return configured
    largest = int(labels.max(initial=0))
    if largest >= MAX_CLASSES:
        raise DatasetError(f"{source}: label {largest} would mean more than {MAX_CLASSES} classes")
    numbers = range(max(largest, 0) + 1)
    missing = sorted(set(numbers) - set(labels.tolist()))
    if labels.size and missing:
        raise DatasetError(
            f"{source}: no image has label {', '.join(map(str, missing[:10]))}{', ...' * (len(missing) > 10)}, but the "
            f"largest label is {largest}; number the labels without gaps, or give class_names for all of them"
        )
    return tuple(map(str, numbers))
