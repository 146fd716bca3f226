"""Reads named members of a data set from a tar or zip archive, or from the folder that it unpacks to.

Members are read into memory by name and never extracted, so a path inside an archive never becomes a path on disk.
"""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Sequence
from io import SEEK_SET
from pathlib import Path, PurePosixPath
from typing import IO, cast

from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import check_size
from darkroom.model.datasets.zip_archive import open_zip, read_entry

Variant = Collection[str]
"""The file names of one complete published version of a data set."""


class MembersMissing(DatasetError):
    """No version of the data set is complete; the message names the files that the closest version lacks."""


_CHUNK_BYTES = 1 << 20
_LARGEST_HEADER_BYTES = 16 * _CHUNK_BYTES


class _Unpacked:
    """A tar archive's decompressed bytes, up to a limit.

    `tarfile` needs the limit: it reads headers of long names at any size that they claim, and skips members by
    decompressing them.
    """

    def __init__(self, file: IO[bytes], limit_bytes: int) -> None:
        self._file = file
        self._limit_bytes = limit_bytes

    def read(self, size: int) -> bytes:
        if size > _LARGEST_HEADER_BYTES:  # contents are read in smaller pieces
            raise DatasetError(f"a header of {size} bytes")
        self._check(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, position: int) -> None:
        if position > self._limit_bytes:
            raise DatasetError(f"unpacks to more than {self._limit_bytes} bytes, the most for an archive of its size")


def _incomplete(found: Collection[str], variants: Sequence[Variant]) -> MembersMissing:
    closest = max(variants, key=lambda names: len(set(names) & set(found)))
    return MembersMissing(f"lacks {', '.join(sorted(set(closest) - set(found)))}")


def _complete(found: Collection[str], variants: Sequence[Variant]) -> Variant | None:
    return next((names for names in variants if set(names) <= set(found)), None)


def _folder(path: Path, variants: Sequence[Variant]) -> dict[str, Path]:
    """Return the files of the first complete variant, in `path` or in one folder directly below it."""
    wanted = set().union(*variants)
    best: dict[str, Path] = {}
    for folder in (path, *sorted(child for child in path.iterdir() if child.is_dir())):
        found = {name: folder / name for name in wanted if (folder / name).is_file()}
        complete = _complete(found, variants)
        if complete is not None:
            return {name: found[name] for name in complete}
        best = max(best, found, key=len)
    raise MembersMissing(f"{path}: {_incomplete(best, variants)}")


def _check_member(member: tarfile.TarInfo, number: int, limits: ArchiveLimits) -> None:
    parts = member.name.split("/")
    if number >= limits.entries:
        raise DatasetError(f"more than {limits.entries} entries")
    if member.name.startswith("/") or ".." in parts or "\\" in member.name:
        raise DatasetError(f"{member.name!r}: not a plain relative name")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise DatasetError(f"{member.name!r}: a link, sparse or special file")


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if start.startswith(b"BZh"):
        return bz2.open(path, "rb")
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(path, "rb")
    return path.open("rb")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # `_check_member` refused links, and the caller skips folders
    content = bytearray()
    while chunk := file.read(_CHUNK_BYTES):
        content += chunk
    return bytes(content)


def _tar(path: Path, variants: Sequence[Variant], limits: ArchiveLimits) -> dict[str, bytes]:
    wanted = set().union(*variants)
    found: dict[str, bytes] = {}
    with _decompressed(path) as file:
        bounded = cast(IO[bytes], _Unpacked(file, limits.unpacked_bytes(path.stat().st_size)))
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            for number, member in enumerate(archive):
                _check_member(member, number, limits)
                name = PurePosixPath(member.name).name
                if name not in wanted or not member.isfile():
                    continue
                if name in found:
                    raise DatasetError(f"holds {name} twice")
                check_size(member.size + sum(map(len, found.values())), str(member.name))
                found[name] = _content(archive, member)
                complete = _complete(found, variants)
                if complete is not None:  # decompressing the rest (2.7 GB in STL-10) would waste time
                    return {name: found[name] for name in complete}
    raise _incomplete(found, variants)


def _zip(path: Path, variants: Sequence[Variant], limits: ArchiveLimits) -> dict[str, bytes]:
    wanted = set().union(*variants)
    found: dict[str, zipfile.ZipInfo] = {}
    with open_zip(path, limits) as archive:
        for entry in archive.infolist():
            name = PurePosixPath(entry.filename).name
            if name in wanted and not entry.is_dir():
                if name in found:
                    raise DatasetError(f"{path}: holds {name} twice")
                found[name] = entry
        complete = _complete(found, variants)
        if complete is None:
            raise MembersMissing(f"{path}: {_incomplete(found, variants)}")
        check_size(sum(found[name].file_size for name in complete), str(path))
        return {name: read_entry(archive, found[name], str(path)) for name in complete}


def _archive(path: Path, variants: Sequence[Variant], limits: ArchiveLimits) -> dict[str, bytes]:
    try:
        if zipfile.is_zipfile(path):
            return _zip(path, variants, limits)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error
    try:
        return _tar(path, variants, limits)
    except DatasetError as error:
        raise type(error)(f"{path}: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable tar archive, or truncated: {error}") from error


def member_files(path: Path, variants: Sequence[Variant]) -> list[Path]:
    """Return the files that `read_members` would read: the archive itself, or the members in the folder.

    Raises DatasetError when `path` does not exist or the folder lacks members.
    """
    if path.is_dir():
        return sorted(_folder(path, variants).values())
    if not path.is_file():
        raise DatasetError(f"{path}: no such file or folder")
    return [path]


def read_members(path: Path, variants: Sequence[Variant], limits: ArchiveLimits) -> dict[str, bytes]:
    """Read the first variant that is complete in `path` (a tar or zip archive, or a folder); contents by file name.

    Raises DatasetError naming the archive when it cannot be read, and the members that are missing.
    """
    files = member_files(path, variants)
    if not path.is_dir():
        return _archive(path, variants, limits)
    contents = {}
    try:
        check_size(sum(file.stat().st_size for file in files), str(path))
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error
    for file in files:
        try:
            contents[file.name] = file.read_bytes()
        except OSError as error:
            raise DatasetError(f"{file}: {error.strerror}") from error
    return contents
