"""Reads zip archives from strangers member by member into memory; it never extracts to disk.

Before it reads a member, it checks the directory: its size, names that leave the archive, links, encrypted members,
methods that unpack without a limit, and sizes of a zip bomb. A member unpacks to at most the bytes that the directory
states. The sum of these therefore limits all unpacked bytes, even where members share their compressed bytes.
"""

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import check_size

MAX_DEPTH = 16
"""Most levels of folders; deeper ones have no use here, and each costs memory."""

_ENTRY_SIGNATURE = b"PK\x01\x02"
_ENTRY_BYTES = 256
"""Bytes allowed in the directory for each entry, most of them for its name."""

_CHUNK_BYTES = 1 << 20
_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)


class _BoundedDirectory(io.BufferedReader):
    """The archive's file; refuses a directory with too many entries while `zipfile` reads it.

    `zipfile` makes an object of every entry before it returns the first, and the archive's own count may be false.
    """

    def __init__(self, path: Path, entries: int) -> None:
        super().__init__(io.FileIO(path))
        self._entries: int | None = entries

    def read(self, size: int | None = -1) -> bytes:
        if self._entries is None:
            return super().read(size)
        if size is not None and size > (self._entries + 1) * _ENTRY_BYTES:
            raise DatasetError(f"a directory of {size} bytes; at most {self._entries} entries are read")
        data = super().read(size)
        if data.count(_ENTRY_SIGNATURE) > self._entries:
            raise DatasetError(f"more than {self._entries} entries")
        return data

    def directory_was_read(self) -> None:
        self._entries = None


@contextmanager
def open_zip(path: Path, limits: ArchiveLimits) -> Iterator[zipfile.ZipFile]:
    """Open the archive and check its directory; raises DatasetError naming the entry that it refuses."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_BoundedDirectory(path, limits.entries))
            archive = stack.enter_context(zipfile.ZipFile(file))
            file.directory_was_read()
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from error
        except _FAULTS as error:
            raise DatasetError(f"{path}: not a readable zip archive, or truncated: {error}") from error
        _check_directory(archive, path, limits)
        yield archive


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, source: str) -> bytes:
    """Read an entry's bytes and check their CRC; raises DatasetError naming `source` and the entry."""
    named = f"{source}: {entry.filename}"
    check_size(entry.file_size, named)
    content = bytearray()
    try:
        with archive.open(entry) as file:
            while chunk := file.read(_CHUNK_BYTES):  # a single read would unpack everything at once
                content += chunk
    except _FAULTS as error:
        raise DatasetError(f"{named}: damaged or truncated: {error}") from error
    if len(content) != entry.file_size:
        raise DatasetError(f"{named}: {len(content)} bytes; the directory says {entry.file_size}")
    return bytes(content)


def _check_directory(archive: zipfile.ZipFile, path: Path, limits: ArchiveLimits) -> None:
    seen: set[str] = set()
    for entry in archive.infolist():
        fault = _fault(entry)
        if entry.filename in seen:
            fault = "occurs twice"
        if fault is not None:
            raise DatasetError(f"{path}: {entry.orig_filename!r}: {fault}")
        seen.add(entry.filename)
    unpacked = sum(entry.file_size for entry in archive.infolist())
    allowed = limits.unpacked_bytes(path.stat().st_size)
    if unpacked > allowed:
        raise DatasetError(f"{path}: unpacks to {unpacked} bytes; at most {allowed} for an archive of its size")


def _fault(entry: zipfile.ZipInfo) -> str | None:
    name = entry.orig_filename  # `zipfile` cuts `filename` at a zero byte
    parts = name.split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts or "\\" in name or "\0" in name:
        return "not a plain relative name"
    if len(parts) > MAX_DEPTH:
        return f"more than {MAX_DEPTH} folders deep"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or special file"
    if entry.flag_bits & 1:
        return "encrypted"
    # Decoders of other methods unpack their whole input, even for a small read.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {entry.compress_type}; only stored and deflated members are read"
    return None
