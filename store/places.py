"""Where artifact bytes lie outside PostgreSQL: in a folder that all services share, or in a bucket of S3.

A location is the whole address of one artifact's bytes: `/folder/ab/abcd...`, `file:///folder/ab/abcd...` or
`s3://bucket/prefix/ab/abcd...`. Records keep it, so it never holds a password: AWS's own variables name the endpoint
and the credentials of a bucket.
"""

import configparser
import errno
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from darkroom.model.machine.disk import reach_disk
from darkroom.store.database import DatabaseAway, DatabaseFull

PIECE_BYTES = 8 << 20
"""Most bytes of one request to a bucket. Each request is short, so that a slow reader holds no connection open."""

LEAST_FREE_BYTES = 256 << 20
"""With less, the disk of a folder counts as full for `StorageProbe`. A write still takes the last byte."""

_BUCKET = re.compile("[a-z0-9][a-z0-9.-]*")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PART = ".part"
_NO_ARTIFACT = "0" * 64
"""Like the name of an artifact, but of none."""
_FORM = "write the absolute path of a folder that all services share, or s3://BUCKET/PREFIX"

log = logging.getLogger(__name__)


class ArtifactsAway(DatabaseAway):
    """The folder or bucket of the artifact bytes cannot be used now, but the same transaction may succeed later."""


class ArtifactsFull(DatabaseFull, ArtifactsAway):
    """The disk of the artifact bytes' folder is full."""


class Place(Protocol):
    """One artifact's place. Every method raises ArtifactsAway, and those that read raise FileNotFoundError."""

    def write(self, chunks: Iterable[bytes]) -> None:
        """Replace the bytes. Readers find all the old ones or all the new ones."""

    def size(self) -> int:
        """How many bytes there are."""

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from `start`, which must be below `Place.size`."""

    def remove(self) -> None:
        """Delete the bytes, and what an unfinished `write` left, if they are there."""

    def require_root(self) -> None:
        """Raise ArtifactsAway when the folder or bucket is missing, refuses this process, or has a full disk.

        It writes nothing, and so notices neither a bucket that refuses to be written nor a quota that is used up.
        """


class StorageProbe:
    """Says whether the folder or bucket below `url` can be used, and logs each change."""

    def __init__(self, url: str) -> None:
        self._place = place_of(f"{url.rstrip('/')}/00/{_NO_ARTIFACT}")
        self._fault: str | None = None

    def __call__(self) -> bool:
        """Ask it."""
        before, self._fault = self._fault, None
        try:
            self._place.require_root()
        except ArtifactsAway as error:
            self._fault = str(error)
        if self._fault != before:
            if self._fault is None:
                log.info("the storage of artifacts can be used again")
            else:
                log.warning("the storage of artifacts cannot be used: %s", self._fault)
        return self._fault is None


def place_of(location: str) -> Place:
    """Return the place with this address."""
    if location.startswith("s3://"):
        parts = urlsplit(location)
        return _Object(parts.netloc, parts.path.lstrip("/"))
    return _File(Path(location.removeprefix("file://")))


def check_url(url: str) -> None:
    """Check the address below which new artifacts lie. Raises ValueError, which does not repeat the address."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        good = _BUCKET.fullmatch(parts.netloc) is not None and not any(sign in url for sign in "@?#")
    else:
        path = url.removeprefix("file://")
        good = path.startswith("/") and "://" not in path
    if not good:
        raise ValueError(f"{_FORM}; credentials belong into AWS's own variables")
    if parts.scheme == "s3":
        _check_endpoint()


def _check_endpoint() -> None:
    """Raise ValueError for an AWS_ENDPOINT_URL that the client of S3 would not survive."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        try:
            parts = urlsplit(endpoint)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number, or a bracket without its end
            good = False
        if not good or any(sign in endpoint for sign in "@?#"):
            raise ValueError(
                "the address in AWS_ENDPOINT_URL must be http://HOST:PORT or https://HOST, without user and password"
            )


class _File:
    """Bytes in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = path.parents[1]

    def write(self, chunks: Iterable[bytes]) -> None:
        self._require_folder()  # a shared folder that is not mounted must not become one of this machine
        with self._answering():
            folder = self._path.parent
            folder.mkdir(exist_ok=True)
            part = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}{_PART}")
            try:
                with part.open("xb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self._path)
                reach_disk(folder)  # the new name, too
            except BaseException:
                with suppress(OSError):
                    part.unlink(missing_ok=True)  # on a full disk it would take the place of others
                raise

    def size(self) -> int:
        with self._answering():
            return self._path.stat().st_size

    def read(self, start: int, size: int) -> bytes:
        with self._answering(), self._path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def remove(self) -> None:
        self._require_folder()
        with self._answering():
            for part in self._path.parent.glob(f"{self._path.name}.*{_PART}"):
                part.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def require_root(self) -> None:
        self._require_folder()
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise ArtifactsAway(f"the folder {self._root} of the artifacts is read-only or forbidden to this account")
        with self._answering():
            free = shutil.disk_usage(self._root).free
        if free < LEAST_FREE_BYTES:
            least = f"{LEAST_FREE_BYTES >> 20} MiB"
            raise ArtifactsFull(f"the disk of the folder {self._root} of the artifacts has less than {least} free")

    def _require_folder(self) -> None:
        if not os.path.isdir(self._root):  # unlike Path.is_dir, False whatever the system says of it
            raise ArtifactsAway(f"the folder {self._root} of the artifacts does not exist or cannot be reached")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self._require_folder()
            raise
        except OSError as error:
            kind = ArtifactsFull if error.errno in _FULL else ArtifactsAway
            raise kind(f"{self._path}: {error.strerror}") from error


class _Object:
    """Bytes in an object of a bucket. An object appears when all its bytes were sent, not before."""

    def __init__(self, bucket: str, key: str) -> None:
        self._address = f"s3://{bucket}/{key}"
        self._bucket = bucket
        self._key = key

    def write(self, chunks: Iterable[bytes]) -> None:
        try:
            with self._answering():
                _bucket(self._bucket).put(self._key, iter(chunks), chunk_size=PIECE_BYTES, max_concurrency=2)
        except FileNotFoundError:
            raise ArtifactsAway(f"the bucket {self._bucket} of the artifacts does not exist") from None

    def size(self) -> int:
        try:
            with self._answering():
                return int(_bucket(self._bucket).head(self._key)["size"])
        except FileNotFoundError:
            self.require_root()  # the answer has no body, and so does not say what is missing
            raise

    def read(self, start: int, size: int) -> bytes:
        with self._answering():
            return bytes(_bucket(self._bucket).get_range(self._key, start=start, length=size))

    def remove(self) -> None:
        with self._answering(), suppress(FileNotFoundError):
            _bucket(self._bucket).delete(self._key)

    def require_root(self) -> None:
        with suppress(FileNotFoundError):
            self.read(0, 1)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise ArtifactsAway(f"the bucket {self._bucket} of the artifacts does not exist") from None
            raise
        except BaseError as error:
            # without the driver's error: it repeats requests and answers, in which credentials may be
            raise ArtifactsAway(f"{self._address}: {_reason(error)}") from None


def _reason(error: BaseError) -> str:
    """Return what the server or the network said, without addresses and answers."""
    says = str(error)
    code = re.search(r"<Code>(\w+)</Code>", says)
    status = re.search(r"status code: (\d+[\w ]*)", says)
    line = says.splitlines()[0].rpartition(" - ")[2].partition("<")[0]
    plain = status[1].strip() if status else re.sub(r"\S+://\S+", "...", line).strip()
    return f"{plain} ({code[1]})" if code else plain


@lru_cache
def _bucket(name: str) -> S3Store:
    """Return a client of the bucket. It reads AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and the like.

    It gives up soon, because callers have their own ways to try again.
    """
    try:
        _check_endpoint()
    except ValueError as error:
        raise ArtifactsAway(str(error)) from None
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    provider: dict[str, Any] = {"credential_provider": _SharedFile(Path(file))} if file else {}
    return S3Store(
        name,
        client_options={"connect_timeout": "5s", "timeout": "30s", "allow_http": plain},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
        **provider,
    )


class _SharedFile:
    """The credentials in AWS's shared file, of the profile in AWS_PROFILE. Read again every five minutes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> Any:
        """Return the credentials. Raises ArtifactsAway, which names the file."""
        profile = os.environ.get("AWS_PROFILE", "default")
        found = configparser.ConfigParser(interpolation=None)
        try:
            found.read_string(self._path.read_text(encoding="utf-8"))
            section = found[profile]
            return {
                "access_key_id": section["aws_access_key_id"],
                "secret_access_key": section["aws_secret_access_key"],
                "token": section.get("aws_session_token"),
                "expires_at": datetime.now(UTC) + timedelta(minutes=5),
            }
        except (OSError, UnicodeDecodeError, KeyError, configparser.Error):  # an error would repeat the file's lines
            raise ArtifactsAway(f"{self._path} holds no credentials of the profile {profile}") from None
