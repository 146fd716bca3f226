"""Class folders in a zip archive (`model/datasets/class_folders.py`), at its top or in one outer folder."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal
from zipfile import ZipFile, ZipInfo

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.class_folders import class_files, decode_classes
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.zip_archive import open_zip, read_entry
from darkroom.model.progress import OnProgress, silent


class _Member:
    """A file or folder of the archive."""

    def __init__(self, archive: ZipFile, source: str, name: str = "", parent: str = "") -> None:
        self.name = name
        self.entry: ZipInfo | None = None
        self._archive = archive
        self._source = source
        self._place = f"{parent}{name}"
        self._members: dict[str, _Member] = {}

    def __str__(self) -> str:
        return f"{self._source}: {self._place}" if self._place else self._source

    def member(self, name: str) -> "_Member":
        """Return the member of that name; makes it when it is missing."""
        parent = f"{self._place}/" if self._place else ""
        return self._members.setdefault(name, _Member(self._archive, self._source, name, parent))

    def is_dir(self) -> bool:
        return self.entry is None

    def is_file(self) -> bool:
        return self.entry is not None

    def iterdir(self) -> Iterable["_Member"]:
        return self._members.values()

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        assert self.entry is not None
        return BytesIO(read_entry(self._archive, self.entry, self._source))


_UTF8_FLAG = 0x800


def _name(entry: ZipInfo) -> str:
    """Return the entry's name; macOS writes UTF-8 without the flag for it, which `zipfile` reads as code page 437."""
    if not entry.flag_bits & _UTF8_FLAG:
        try:
            return entry.filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return entry.filename


def _tree(archive: ZipFile, source: str) -> _Member:
    top = _Member(archive, source)
    for entry in archive.infolist():
        here = top
        for part in _name(entry).split("/"):
            if here.is_file():
                raise DatasetError(f"{here}: both a file and a folder")
            if part not in ("", "."):
                here = here.member(part)
        if not entry.is_dir():
            if here is top or any(here.iterdir()):
                raise DatasetError(f"{source}: {entry.filename!r}: both a file and a folder")
            if here.is_file():
                raise DatasetError(f"{source}: {entry.filename!r}: occurs twice")
            here.entry = entry
    return top


def zip_files(config: DatasetConfig, path: Path) -> list[Path]:
    """Return the archive itself; raises DatasetError when it is missing."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    return [path]


def decode_zip(config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress = silent) -> Decoded:
    """Decode images (N, C, S, S) with `decode_classes`; raises DatasetError naming the archive and the entry."""
    with open_zip(path, limits) as archive:
        if "images.npy" in archive.namelist():
            raise DatasetError(f"{path}: holds arrays instead of class folders; use format npz")
        found = class_files(config, _tree(archive, str(path)))
        return decode_classes(config, found, str(path), pixels=limits.pixels, on_progress=on_progress)
