"""Class folders: one folder of image files for each class, on disk or in an archive.

The class folders may lie in folders `train` and `test`, in any case; the split then chooses between these two. `val`,
`valid` or `validation` serves as `test` where there is no `test`, and is left out beside one. A split may lack classes
that the other has.
"""

import logging
import math
import statistics
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import MAX_IMAGE_PIXELS
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import (
    MAX_DECODED_BYTES,
    Decoded,
    Reading,
    SizesDiffer,
    SplitFolder,
    agreed_class_names,
    check_decoded,
    check_labels,
    check_size,
)
from darkroom.model.datasets.resize import eight_bits, square_picture
from darkroom.model.progress import OnProgress, silent, told

# Pillow starts other programs for some formats (Ghostscript for EPS); the content of a file must never cause that.
PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}

TEXT_SUFFIXES = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".html", ".yaml", ".yml", ".log", ".rtf"}

_JUNK = {"__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
"""Names, in lower case, that file managers and network drives add. They also add names with a dot in front."""

_SPLITS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
"""The names, in lower case, of a split's folder; an earlier one is preferred."""

NAMED_FAULTS = 10
"""How many damaged pictures a message names."""
ONE_CLASS = "pictures"
"""Name of the only class of an archive without folders."""

log = logging.getLogger(__name__)

_GREY_MODES = {"1", "L", "LA", "I;16", "I;16B", "I;16L"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa"}


class Place(Protocol):
    """A file or folder, such as a `pathlib.Path`. `str` of it names it in errors."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        ...

    def is_dir(self) -> bool:
        """Return True for a folder."""
        ...

    def is_file(self) -> bool:
        """Return True for a file."""
        ...

    def iterdir(self) -> Iterable[Self]:
        """Return the entries of a folder."""
        ...

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open a file's content for reading."""
        ...


P = TypeVar("P", bound=Place)


@dataclass(frozen=True)
class ClassFiles(Generic[P]):
    """The files of each class of a split, and what was found beside them."""

    classes: Mapping[str, list[P]]
    reading: Reading


class DamagedPictures(DatasetError):
    """Pictures that cannot be read. faults: one for each, with its place."""

    def __init__(self, faults: Sequence[str], pictures: int) -> None:
        named = "; ".join(faults[:NAMED_FAULTS])
        more = f"; and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
        counted = f"{len(faults):,} of {pictures:,} pictures cannot be read: " if len(faults) > 1 else ""
        super().__init__(
            f"{counted}{named}{more}. Mend or remove them, or leave them out with skip_damaged (--skip-damaged on the "
            "command line)"
        )
        self.faults = faults


@dataclass(frozen=True)
class _Kind:
    size: tuple[int, int]
    grey: bool


def _is_junk(place: Place) -> bool:
    return place.name.startswith(".") or place.name.lower() in _JUNK


def _suffix(place: Place) -> str:
    return PurePosixPath(place.name).suffix.lower()


def _class_name(folder: Place) -> str:
    """Return the name in Unicode's composed form (NFC): macOS stores the decomposed one."""
    return unicodedata.normalize("NFC", folder.name)


def _class_order(name: str) -> tuple[bool, int, str, str]:
    """Numbers come first, by their value; then all other names."""
    number = name.isascii() and name.isdecimal()
    digits = name.lstrip("0") if number else ""
    return not number, len(digits), digits, name


def _visible(folder: P) -> list[P]:
    """Return a folder's entries by name, without junk."""
    return sorted((entry for entry in folder.iterdir() if not _is_junk(entry)), key=lambda entry: entry.name)


def _folders(folder: P) -> list[P]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _split_folders(folder: P) -> dict[str, P]:
    """Return the folders of splits that hold class folders, by their names in lower case."""
    names = {name for spellings in _SPLITS.values() for name in spellings}
    return {entry.name.lower(): entry for entry in _folders(folder) if entry.name.lower() in names and _folders(entry)}


def _splits(found: Mapping[str, P]) -> dict[str, P]:
    """Return the folder of each split that there is."""
    return {
        split: next(found[name] for name in names if name in found)
        for split, names in _SPLITS.items()
        if any(name in found for name in names)
    }


def _unwrapped(folder: P) -> P:
    """Return the folder inside a single outer folder, which zip programs add; else the folder itself."""
    inner = _folders(folder)
    pictures = (
        entry for place in (folder, *inner[:1]) for entry in _visible(place) if _suffix(entry) in IMAGE_SUFFIXES
    )
    alone = len(inner) == 1 and _folders(inner[0]) and not any(entry.is_file() for entry in pictures)
    return _unwrapped(inner[0]) if alone and not _split_folders(folder) else folder


def _junk(folder: Place) -> Iterator[str]:
    """Yield the junk and the text files that lie directly in the folder; a folder of junk is one."""
    for entry in folder.iterdir():
        if _is_junk(entry) or (entry.is_file() and _suffix(entry) in TEXT_SUFFIXES):
            yield str(entry)


def _count(split: P) -> int:
    """Return the number of files in a split's class folders."""
    files = (file for entry in _folders(split) for file in _visible(entry))
    return sum(file.is_file() and _suffix(file) not in TEXT_SUFFIXES for file in files)


def _split_files(root: P) -> dict[str, list[P]]:
    classes: dict[str, list[P]] = {}
    for entry in _visible(root):
        if entry.is_dir():
            files = classes.setdefault(_class_name(entry), [])
            for file in _visible(entry):
                if not file.is_file():
                    raise DatasetError(f"{file}: not an image file; class folders are not nested")
                if _suffix(file) not in TEXT_SUFFIXES:
                    files.append(file)
        elif _suffix(entry) in IMAGE_SUFFIXES:
            raise DatasetError(
                f"{entry}: an image outside the class folders; put each class's pictures into a folder of its own"
            )
    return classes


def _one_class(folder: P) -> dict[str, list[P]]:
    """Return the pictures of a folder without folders as one class, which has the folder's name."""
    files = [entry for entry in _visible(folder) if _suffix(entry) not in TEXT_SUFFIXES]
    with_pictures = any(_suffix(entry) in IMAGE_SUFFIXES for entry in files)
    return {_class_name(folder) or ONE_CLASS: files} if with_pictures else {}


def class_files(config: DatasetConfig, folder: P) -> ClassFiles[P]:
    """Return the files of each class of the split; raises DatasetError for another layout.

    Files are in the order of their names, classes too, but numbers in that of their values. The class folders may lie
    in one outer folder. Junk and text files are left out. A class without files is one that only the other split has.
    Pictures without class folders are one class.
    """
    top = _unwrapped(folder)
    found = _split_folders(top)
    splits = _splits(found)
    if config.split == "test" and "test" not in splits:
        raise DatasetError(f"{folder}: has no folder 'test' with class folders in it")
    root = splits.get(config.split, top)
    classes = _split_files(root) if _folders(root) else _one_class(root)
    others = [_split_files(place) for place in splits.values() if place is not root] if root is not top else []
    for name in {name for other in others for name, files in other.items() if files}:
        classes.setdefault(name, [])
    for name, files in classes.items():
        if not files and not any(other.get(name) for other in others):
            raise DatasetError(f"{root}/{name}: a class without images; put pictures into the folder, or delete it")
    if not classes:
        raise DatasetError(f"{root}: holds no class folders")
    reading = Reading(
        junk=frozenset(name for place in (folder, top, root, *_folders(root)) for name in _junk(place)),
        splits=tuple(SplitFolder(one.name, _count(one), one is root) for one in found.values() if root is not top),
    )
    if reading.junk:
        log.info("%s: left out %d files that are no pictures", folder, len(reading.junk))
    return ClassFiles({name: classes[name] for name in sorted(classes, key=_class_order)}, reading)


@contextmanager
def _opened(place: Place) -> Iterator[Image.Image]:
    """Open a picture and read its header; raises DatasetError when it is not an image, too large or damaged."""
    try:
        with place.open("rb") as file, Image.open(file, formats=PILLOW_FORMATS) as picture:
            if picture.width * picture.height > MAX_IMAGE_PIXELS:
                raise DatasetError(
                    f"{place}: {picture.width}x{picture.height} pixels; at most {MAX_IMAGE_PIXELS} are read"
                )
            known = _GREY_MODES | _COLOUR_MODES if picture.format != "PPM" else _GREY_MODES | _COLOUR_MODES | {"I"}
            if picture.mode not in known:
                raise DatasetError(f"{place}: pixels of mode {picture.mode!r} have no agreed range")
            yield picture
    except (DatasetError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its message names an object in memory
        raise DatasetError(f"{place}: not a readable image: its bytes have no known picture format") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DatasetError(f"{place}: not a readable image: {error}") from error


def _kind(place: Place) -> _Kind:
    with _opened(place) as picture:
        return _Kind(picture.size, picture.mode in _GREY_MODES | {"I"})


def _pixels(picture: Image.Image, grey: bool, side: int, config: DatasetConfig) -> npt.NDArray[np.uint8]:
    """Return (C, side, side) uint8. Transparent pixels are laid over the ground; 16-bit grey is divided by 257."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = Image.fromarray(eight_bits(np.asarray(picture)))
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, config.ground), clear)
    square = square_picture(picture.convert("L" if grey else "RGB"), side, config.fit, config.ground)
    return np.asarray(square)[None] if grey else np.asarray(square).transpose(2, 0, 1)


@contextmanager
def _noting(faults: dict[int, str], number: int) -> Iterator[None]:
    """Note the fault of a picture instead of raising it, so that one answer names all of them."""
    try:
        yield
    except DatasetError as error:
        faults[number] = str(error)


def _side(files: Sequence[tuple[Place, int]], kinds: Mapping[int, _Kind]) -> int:
    """Return the side that all pictures have; raises SizesDiffer, which names one that differs from the first."""
    first = next(iter(kinds.values())).size
    for number, kind in kinds.items():
        width, height = kind.size
        if kind.size != first or width != height:
            raise SizesDiffer(
                f"{files[number][0]}: is {width}x{height}; set image_size, since the files are not all squares of one "
                "size",
                statistics.median_low(min(one.size) for one in kinds.values()),
                damaged=len(kinds) < len(files),
            )
    return first[0]


def decode_classes(
    config: DatasetConfig,
    found: ClassFiles[P],
    source: str,
    *,
    pixels: int | None = None,
    on_progress: OnProgress = silent,
) -> Decoded:
    """Decode images (N, C, S, S) uint8, in the order of class and file names; the folders' names are the classes.

    S is `image_size`: each picture is turned by its EXIF orientation and made square by `square_picture`. Without
    `image_size`, all files must be squares of one size. C = 1 when every file is stored as grey, else 3. pixels: most
    stored pixels of all pictures; None: no limit. Raises SizesDiffer, DamagedPictures with all pictures that cannot be
    read (unless the configuration leaves them out), and DatasetError.
    """
    names = agreed_class_names(tuple(found.classes), config.class_names, source)
    files = [(file, label) for label, name in enumerate(names) for file in found.classes[name]]
    of_files = np.array([label for _, label in files])
    check_labels(of_files, names, len(files), images_source=source, labels_source=source)
    faults: dict[int, str] = {}
    kinds: dict[int, _Kind] = {}
    for number, (file, _) in enumerate(told("reading the pictures' sizes", files, on_progress)):
        with _noting(faults, number):
            kinds[number] = _kind(file)
    stored = sum(kind.size[0] * kind.size[1] for kind in kinds.values())
    if pixels is not None and stored > pixels:
        raise DatasetError(f"{source}: its pictures have {stored} pixels; at most {pixels} are read")
    if not kinds:
        raise DamagedPictures(list(faults.values()), len(files))
    side = config.image_size or _side(files, kinds)
    grey = all(kind.grey for kind in kinds.values())
    shape = (len(kinds), 1 if grey else 3, side, side)
    needed = math.prod(shape)
    if config.image_size is None and needed > MAX_DECODED_BYTES:
        raise SizesDiffer(f"{source}: needs {needed} bytes at {side} pixels; set image_size", side)
    check_size(needed, source)
    images = np.empty(shape, dtype=np.uint8)
    labels: list[int] = []
    for number in told("decoding pictures", kinds, on_progress):
        file, label = files[number]
        with _noting(faults, number), _opened(file) as picture:
            images[len(labels)] = _pixels(ImageOps.exif_transpose(picture), grey, side, config)
            labels.append(label)
    damaged = tuple(faults[number] for number in sorted(faults))
    if damaged and not config.skip_damaged:
        raise DamagedPictures(damaged, len(files))
    readable = set(labels)
    for label, name in enumerate(names):
        if found.classes[name] and label not in readable:
            raise DatasetError(
                f"{source}: no picture of the class {name!r} can be read: mend them, or remove the class"
            )
    if damaged:
        log.warning("%s: left out %d pictures that cannot be read, such as %s", source, len(damaged), damaged[0])
    return check_decoded(
        images[: len(labels)],
        np.array(labels, dtype=np.int64),
        names,
        images_source=source,
        labels_source=source,
        reading=replace(found.reading, damaged=damaged),
    )
