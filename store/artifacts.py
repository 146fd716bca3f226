"""Artifact bytes, addressed by their SHA-256 and checked against it on every read.

PostgreSQL holds them in chunks, so that records and bytes commit together and GPU nodes need no shared disk. Large
models may lie below an fsspec address (a folder, S3), which is then in the record.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

import fsspec
from sqlalchemy import ColumnElement, Select, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.tables import Artifact, ArtifactChunk, Base

CHUNK_BYTES = 1 << 20
COLLECT_AFTER_SECONDS = 3600.0
"""Unreferenced bytes stay this long, because the transaction that stored them may be about to refer to them."""


class ArtifactMissing(LookupError):
    """No artifact has this digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"there is no artifact {digest}")
        self.digest = digest


class ArtifactCorrupted(RuntimeError):
    """The stored bytes are not those that the digest names."""

    def __init__(self, digest: str, detail: str) -> None:
        super().__init__(f"artifact {digest} is corrupted: {detail}")
        self.digest = digest


class Artifacts:
    """The artifacts as one transaction sees them. Equal content is stored once; storing it again repairs damage.

    New bytes go to `Database.artifacts_url`, if the database has one. Older bytes are read from where they are.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._url: str | None = session.info.get("artifacts_url")

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest."""
        return self.put_file(io.BytesIO(data))

    def put_file(self, file: BinaryIO) -> str:
        """Store a seekable file's content with one chunk in memory at a time, and return its digest."""
        hasher, size_bytes = hashlib.sha256(), 0
        for chunk in _chunks(file):
            hasher.update(chunk)
            size_bytes += len(chunk)
        digest = "sha256:" + hasher.hexdigest()
        # A second writer of the same content waits here for the first one's commit, then has nothing to do. The update
        # of the record keeps the collector from deleting bytes that get their first reference now.
        created = self._session.scalar(
            upsert(Artifact)
            .values(digest=digest, size_bytes=size_bytes, location=self._location(digest))
            .on_conflict_do_update(index_elements=[Artifact.digest], set_={"created_at": func.now()})
            .returning(text("xmax = 0"))  # the record is new
        )
        if created or not self._is_intact(digest):
            self._store(self._session.get_one(Artifact, digest, populate_existing=True), file)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes that `digest` names; raises ArtifactMissing or ArtifactCorrupted."""
        file = io.BytesIO()
        self.copy_to(digest, file)
        return file.getvalue()

    def beginning(self, digest: str, size: int) -> bytes:
        """The first bytes that `digest` names; see `piece`."""
        return self.piece(digest, 0, size)

    def piece(self, digest: str, start: int, size: int) -> bytes:
        """Some of the bytes that `digest` names: from `start`, at most `size`.

        Raises ArtifactMissing or ArtifactCorrupted. A piece cannot be checked against the digest.
        """
        row = self._session.get(Artifact, digest)
        if row is None:
            raise ArtifactMissing(digest)
        size = max(0, min(size, row.size_bytes - start))
        if row.location is None:
            first, end = start // CHUNK_BYTES, -(-(start + size) // CHUNK_BYTES)
            few = _chunks_of(row).where(ArtifactChunk.position >= first, ArtifactChunk.position < end)
            data = b"".join(self._session.scalars(few))[start - first * CHUNK_BYTES :][:size]
        else:
            data = _read_piece(row, start, size)
        if len(data) < size:
            raise ArtifactCorrupted(digest, f"{len(data)} bytes at {start} instead of {size}")
        return data

    def copy_to(self, digest: str, file: BinaryIO) -> None:
        """Write the bytes to `file` with one chunk in memory at a time.

        Raises ArtifactMissing or ArtifactCorrupted; the content of `file` is then unusable.
        """
        for chunk in self._checked(digest):
            file.write(chunk)

    def _checked(self, digest: str) -> Iterator[bytes]:
        """Yield the stored bytes; raises ArtifactMissing, and at the end ArtifactCorrupted."""
        row = self._session.get(Artifact, digest)
        if row is None:
            raise ArtifactMissing(digest)
        return checked(row, self._stored(row) if row.location is None else read_location(row))

    def discard(self, digest: str) -> None:
        """Delete damaged bytes, so that the same content can be stored again. No record may refer to them."""
        row = self._session.get(Artifact, digest)
        if row is not None:
            _remove_file(row.location)
            self._session.delete(row)
            self._session.flush()

    def _location(self, digest: str) -> str | None:
        name = digest.removeprefix("sha256:")
        return f"{self._url.rstrip('/')}/{name[:2]}/{name}" if self._url else None

    def _is_intact(self, digest: str) -> bool:
        try:
            for _ in self._checked(digest):
                pass
        except ArtifactCorrupted:
            return False
        return True

    def _store(self, row: Artifact, file: BinaryIO) -> None:
        """Write the bytes at the record's location, over damaged ones."""
        if row.location is None:
            self._session.execute(delete(ArtifactChunk).where(ArtifactChunk.digest == row.digest))
            for position, chunk in enumerate(_chunks(file)):
                self._session.execute(insert(ArtifactChunk).values(digest=row.digest, position=position, data=chunk))
            return
        system, path = fsspec.url_to_fs(row.location)
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        part = path + ".part"
        try:
            with system.open(part, "wb") as target:
                for chunk in _chunks(file):
                    target.write(chunk)
        except OSError:
            with suppress(OSError):
                system.rm(part)  # on a full disk it would take the place of others
            raise
        system.mv(part, path)  # a reader of the final name finds the whole file

    def _stored(self, row: Artifact) -> Iterable[bytes]:
        return self._session.scalars(_chunks_of(row).execution_options(yield_per=16))


def checked(row: Artifact, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks; raises ArtifactCorrupted for too many bytes, and at the end for a wrong size or digest."""
    hasher, size_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        hasher.update(chunk)
        size_bytes += len(chunk)
        if size_bytes > row.size_bytes:
            raise ArtifactCorrupted(row.digest, f"more than {row.size_bytes} bytes")
        yield chunk
    if size_bytes != row.size_bytes:
        raise ArtifactCorrupted(row.digest, f"{size_bytes} bytes instead of {row.size_bytes}")
    if "sha256:" + hasher.hexdigest() != row.digest:
        raise ArtifactCorrupted(row.digest, f"the bytes have the digest sha256:{hasher.hexdigest()}")


def read_location(row: Artifact) -> Iterator[bytes]:
    """Yield the bytes at the record's location; raises ArtifactCorrupted when there is no file."""
    assert row.location is not None
    try:
        with fsspec.open(row.location, "rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as error:
        raise ArtifactCorrupted(row.digest, f"{row.location} is gone") from error


def _read_piece(row: Artifact, start: int, size: int) -> bytes:
    """Bytes at the record's location; raises ArtifactCorrupted when there is no file."""
    system, path = fsspec.url_to_fs(row.location)
    try:
        data: bytes = system.cat_file(path, start, start + size)
    except FileNotFoundError as error:
        raise ArtifactCorrupted(row.digest, f"{row.location} is gone") from error
    return data


def _chunks_of(row: Artifact) -> Select[bytes]:
    return select(ArtifactChunk.data).where(ArtifactChunk.digest == row.digest).order_by(ArtifactChunk.position)


def unreferenced() -> list[ColumnElement[bool]]:
    """Return the conditions under which no record refers to an artifact."""
    return [
        ~select(1).where(column == Artifact.digest).exists()
        for table in Base.metadata.sorted_tables
        if table.name != ArtifactChunk.__tablename__
        for key in table.foreign_keys
        if key.column.table.name == Artifact.__tablename__
        for column in [key.parent]
    ]


def collect_artifacts(session: Session, limit: int = 100) -> int:
    """Delete at most `limit` old artifacts to which no record refers; returns how many."""
    age = func.extract("epoch", func.now() - Artifact.created_at)
    found = session.execute(
        select(Artifact.digest, Artifact.location)
        .where(age > COLLECT_AFTER_SECONDS, *unreferenced())
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not found:
        return 0
    for _, location in found:
        _remove_file(location)
    session.execute(delete(Artifact).where(Artifact.digest.in_([digest for digest, _ in found])))
    return len(found)


def _remove_file(location: str | None) -> None:
    if location is not None:
        system, path = fsspec.url_to_fs(location)
        if system.exists(path):
            system.rm(path)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
