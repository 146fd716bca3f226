"""Sends files to a running service and fetches files from it, with a progress bar."""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx
from rich.console import Console

from darkroom.app.cli.service_client import ServiceError, ask, ask_with_events, connect, require_success
from darkroom.app.cli.terminal import size
from darkroom.model.user_error import UserError
from darkroom.progress import Meter, progress

CHUNK_BYTES = 1 << 20

_CHECKING = "the service checks the upload"

UNTIL_CHECKED = httpx.Timeout(10.0, read=None, write=None)
"""The service answers only after it has checked all weights."""
UNTIL_EVENTS = httpx.Timeout(10.0, read=60.0, write=None)
"""The service sends a keepalive every 15 seconds."""
_BYTES = {"Content-Type": "application/octet-stream"}


class _Sent:
    """A file that keeps what is written into it until `take` is called. It cannot seek."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        """Do nothing: `take` returns everything that was written."""

    def close(self) -> None:
        """Do nothing: the zip writer does not own this."""

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


def upload_folder(
    url: str | None, folder: Path, name: str, query: Mapping[str, Any], console: Console, *, replace: bool = False
) -> Any:
    """Send a folder's files as a zip to the service, and return its answer about the data set.

    replace: the data set may exist; it then becomes an earlier version.
    """
    files = _files(folder)
    names = {path: path.relative_to(folder) for path in files}
    if all(path.parent == folder for path in files):  # its name is that of its only class
        names = {path: folder.resolve().name / name for path, name in names.items()}
    total = sum(path.stat().st_size for path in files)
    method, path = ("PUT", f"/v1/datasets/{quote(name, safe='')}") if replace else ("POST", "/v1/datasets")
    params = {**query, "format": "zip"} | ({} if replace else {"name": name})
    with connect(url) as client, progress(console) as meter:
        content = _counted(_zipped(names), meter, "uploading", total)
        return ask_with_events(
            client, method, path, meter, _BYTES, params=params, content=content, timeout=UNTIL_EVENTS
        )


def upload_file(url: str | None, path: str, file: Path, console: Console) -> Any:
    """Send a file as the body of a POST to `path`, and return the service's answer."""
    with connect(url) as client, file.open("rb") as source, progress(console) as meter:
        content = _counted(_chunks(source), meter, "uploading", file.stat().st_size, _CHECKING)
        return ask(client, "POST", path, content=content, headers=_BYTES, timeout=UNTIL_CHECKED)


def download_weights(url: str | None, address: str, path: Path, version: Mapping[str, Any], console: Console) -> None:
    """Write a version's weights to `path`, which is replaced only after all bytes have arrived and have the digest.

    address: the version's path below the service's URL. version: the service's answer about it. Raises ServiceError.
    """
    part, hasher = path.with_name(path.name + ".part"), hashlib.sha256()
    with connect(url) as client, client.stream("GET", f"{address}/weights") as response:
        require_success(response)
        try:
            with part.open("wb") as file, progress(console) as meter:
                for chunk in _counted(response.iter_bytes(), meter, "downloading", version["size_bytes"]):
                    hasher.update(chunk)
                    file.write(chunk)
            if f"sha256:{hasher.hexdigest()}" != version["digest"]:
                raise ServiceError(f"the bytes that arrived are not those of {version['digest']}; try again")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _counted(chunks: Iterator[bytes], meter: Meter, what: str, total: int, afterwards: str = "") -> Iterator[bytes]:
    """Yield the chunks, and show how many bytes of `total` have passed. afterwards: what happens after the last one."""
    passed = 0
    meter(what, 0, total, size)
    for chunk in chunks:
        yield chunk
        passed += len(chunk)
        meter(what, min(passed, total), total, size)  # a zip has headers, too
    if afterwards:
        meter(afterwards)


def _files(folder: Path) -> list[Path]:
    """Return the files below the folder, in order, without hidden ones. Raises UserError when there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; name one that has a folder of pictures for each class")
    found = []
    for here, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [path for name in sorted(names) if not name.startswith(".") and (path := Path(here, name)).is_file()]
    if not found:
        raise UserError(f"{folder}: holds no files; put pictures into one folder for each class")
    for path in found:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{str(path)!r}: the name is not UTF-8, as a zip needs it; rename it") from error
    return found


def _zipped(names: Mapping[Path, Path]) -> Iterator[bytes]:
    """Yield a zip archive of the files, with about one chunk in memory at a time. Pictures are compressed already.

    names: of the files in the archive.
    """
    sent = _Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:
        for path, name in names.items():
            entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            with path.open("rb") as source, archive.open(entry, "w") as member:
                for chunk in _chunks(source):
                    member.write(chunk)
                    yield sent.take()
    yield sent.take()


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk
