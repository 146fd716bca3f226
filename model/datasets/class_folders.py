"""Class folders: one folder of image files for each class, on disk or in an archive.

The class folders may lie in folders `train` and `test`, in any case; the split then chooses between these two. `val`,
`valid` or `validation` serves as `test` where there is no `test`. A split may lack classes that the other has.
"""

import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Literal, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import MAX_IMAGE_PIXELS
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import Decoded, agreed_class_names, check_decoded, check_size
from darkroom.model.datasets.resize import eight_bits, square_picture

# Pillow starts other programs for some formats (Ghostscript for EPS); the content of a file must never cause that.
PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}

TEXT_SUFFIXES = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".html", ".yaml", ".yml", ".log", ".rtf"}

_JUNK = {"__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
"""Names, in lower case, that file managers and network drives add. They also add names with a dot in front."""

_SPLITS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
"""The names, in lower case, of a split's folder; an earlier one is preferred."""

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


def _splits(folder: P) -> dict[str, P]:
    """Return the folders with class folders of each split that there is."""
    found = {entry.name.lower(): entry for entry in _folders(folder) if _folders(entry)}
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
    return _unwrapped(inner[0]) if alone and not _splits(folder) else folder


def _left_out(folder: Place) -> int:
    """Return how many junk and text files lie directly in the folder; a folder of junk counts as one."""
    texts = (entry for entry in _visible(folder) if entry.is_file() and _suffix(entry) in TEXT_SUFFIXES)
    return sum(map(_is_junk, folder.iterdir())) + sum(1 for _ in texts)


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
            raise DatasetError(f"{entry}: an image outside the class folders")
    return classes


def class_files(config: DatasetConfig, folder: P) -> dict[str, list[P]]:
    """Return the files of each class of the split; raises DatasetError for another layout.

    Files are in the order of their names, classes too, but numbers in that of their values. The class folders may lie
    in one outer folder. Junk and text files are left out and counted in the log. A class without files is one that only
    the other split has.
    """
    top = _unwrapped(folder)
    splits = _splits(top)
    if config.split == "test" and "test" not in splits:
        raise DatasetError(f"{folder}: has no folder 'test' with class folders in it")
    root = splits.get(config.split, top)
    classes = _split_files(root)
    others = [_split_files(place) for place in splits.values() if place is not root] if root is not top else []
    for name in {name for other in others for name, files in other.items() if files}:
        classes.setdefault(name, [])
    for name, files in classes.items():
        if not files and not any(other.get(name) for other in others):
            raise DatasetError(f"{root}/{name}: a class without images")
    if not classes:
        raise DatasetError(f"{root}: holds no class folders")
    places = {str(place): place for place in (folder, top, root, *_folders(root))}
    left_out = sum(map(_left_out, places.values()))
    if left_out:
        log.info("%s: left out %d files that are no pictures", folder, left_out)
    return {name: classes[name] for name in sorted(classes, key=_class_order)}


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
    except DatasetError:
        raise
    except UnidentifiedImageError as error:  # its message names an object in memory
        raise DatasetError(f"{place}: not a readable image: its bytes have no known picture format") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DatasetError(f"{place}: not a readable image: {error}") from error


def _kind(place: Place) -> _Kind:
    with _opened(place) as picture:
        return _Kind(picture.size, picture.mode in _GREY_MODES | {"I"})


def _pixels(picture: Image.Image, grey: bool, side: int) -> npt.NDArray[np.uint8]:
    """Return (C, side, side) uint8. Transparent pixels are laid over white; 16-bit grey is divided by 257."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = Image.fromarray(eight_bits(np.asarray(picture)))
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    square = np.asarray(square_picture(picture.convert("L" if grey else "RGB"), side))
    return square[None] if grey else square.transpose(2, 0, 1)


def decode_classes(
    config: DatasetConfig, classes: Mapping[str, list[P]], source: str, *, pixels: int | None = None
) -> Decoded:
    """Decode images (N, C, S, S) uint8, in the order of class and file names; the folders' names are the classes.

    S is `image_size`: each picture is turned by its EXIF orientation, scaled to S on its shorter side (Pillow's
    antialiased Lanczos filter) and cropped at its centre. Without `image_size`, all files must be squares of one size.
    C = 1 when every file is stored as grey, else 3. pixels: most stored pixels of all pictures; None: no limit.
    Raises DatasetError naming the file that is not an image or does not fit.
    """
    names = agreed_class_names(tuple(classes), config.class_names, source)
    files = [(file, label) for label, name in enumerate(names) for file in classes[name]]
    kinds = [_kind(file) for file, _ in files]
    stored = sum(kind.size[0] * kind.size[1] for kind in kinds)
    if pixels is not None and stored > pixels:
        raise DatasetError(f"{source}: its pictures have {stored} pixels; at most {pixels} are read")
    side = config.image_size
    if side is None:
        for (file, _), kind in zip(files, kinds, strict=True):
            if kind.size != kinds[0].size or kind.size[0] != kind.size[1]:
                raise DatasetError(
                    f"{file}: is {kind.size[0]}x{kind.size[1]}; set image_size, since the files are not all squares "
                    "of one size"
                )
        side = kinds[0].size[0]
    grey = all(kind.grey for kind in kinds)
    shape = (len(files), 1 if grey else 3, side, side)
    check_size(shape[0] * shape[1] * side * side, source)
    images = np.empty(shape, dtype=np.uint8)
    for index, (file, _) in enumerate(files):
        with _opened(file) as picture:
            images[index] = _pixels(ImageOps.exif_transpose(picture), grey, side)
    labels = np.array([label for _, label in files], dtype=np.int64)
    return check_decoded(images, labels, names, images_source=source, labels_source=source)
