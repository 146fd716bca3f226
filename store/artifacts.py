"""Artifact bytes, addressed by their SHA-256 and checked against it on every read.

PostgreSQL holds them in chunks, so that records and bytes commit together and GPU nodes need no shared disk. Large
models may lie in a folder or a bucket (`store.places`), whose address is then in the record.
"""

import hashlib
import io
import logging
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from sqlalchemy import ColumnElement, Select, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.places import PIECE_BYTES, ArtifactsAway, place_of
from darkroom.store.tables import Artifact, ArtifactChunk, Base

CHUNK_BYTES = 1 << 20
COLLECT_AFTER_SECONDS = 3600.0
"""Unreferenced bytes stay this long, because the transaction that stored them may be about to refer to them."""

log = logging.getLogger(__name__)


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

    New bytes go to `Database.artifacts_url`, if the database has one. Older bytes are read from where they are. Methods
    that read or write bytes outside the database raise `store.places.ArtifactsAway`, too.
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
        if self._url is not None:
            self._announce(digest, size_bytes)
        # A second writer of the same content waits here for the first one's commit, then has nothing to do. The update
        # of the record keeps the collector from deleting bytes that get their first reference now.
        created = self._session.scalar(
            upsert(Artifact)
            .values(digest=digest, size_bytes=size_bytes, location=self._location(digest))
            .on_conflict_do_update(index_elements=[Artifact.digest], set_={"created_at": func.now()})
            .returning(text("xmax = 0"))  # the record is new
        )
        row = self._session.get_one(Artifact, digest, populate_existing=True)
        if created or not self._is_intact(row):
            row.location = self._location(digest)
            self._store(row, file)
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
            if row.location is not None:
                place_of(row.location).remove()
            self._session.delete(row)
            self._session.flush()

    def _location(self, digest: str) -> str | None:
        name = digest.removeprefix("sha256:")
        return f"{self._url.rstrip('/')}/{name[:2]}/{name}" if self._url else None

    def _announce(self, digest: str, size_bytes: int) -> None:
        """Commit a record of bytes that are about to be written outside the database, which cannot roll them back.

        The collector then knows where bytes may lie, even if this transaction fails or its process is killed.
        """
        with Session(self._session.get_bind()) as other, other.begin():
            row = upsert(Artifact).values(digest=digest, size_bytes=size_bytes, location=self._location(digest))
            other.execute(row.on_conflict_do_nothing())

    def _is_intact(self, row: Artifact) -> bool:
        try:
            for _ in self._checked(row.digest):
                pass
        except ArtifactCorrupted:
            return False
        except ArtifactsAway:
            if row.location == self._location(row.digest):
                raise
            return False  # the operator has named another place since; this one may never come back
        return True

    def _store(self, row: Artifact, file: BinaryIO) -> None:
        """Write the bytes at the record's location, over damaged ones."""
        self._session.execute(delete(ArtifactChunk).where(ArtifactChunk.digest == row.digest))
        if row.location is None:
            for position, chunk in enumerate(_chunks(file)):
                self._session.execute(insert(ArtifactChunk).values(digest=row.digest, position=position, data=chunk))
            return
        place_of(row.location).write(_chunks(file))

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
    """Yield the bytes at the record's location; raises ArtifactsAway, and ArtifactCorrupted when it has others."""
    for start in range(0, max(1, row.size_bytes), PIECE_BYTES):
        yield _read_piece(row, start, min(PIECE_BYTES, row.size_bytes - start))


def _read_piece(row: Artifact, start: int, size: int) -> bytes:
    """Bytes at the record's location. Raises ArtifactsAway, and ArtifactCorrupted for a file of another size."""
    assert row.location is not None
    place = place_of(row.location)
    try:
        there = place.size()
        if there != row.size_bytes:
            raise ArtifactCorrupted(row.digest, f"{there} bytes instead of {row.size_bytes}")
        return place.read(start, size) if size else b""
    except FileNotFoundError as error:
        raise ArtifactCorrupted(row.digest, f"{row.location} is gone") from error


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
        .order_by(func.random())  # so that a place that is away for ever takes no turn of the others
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    removed, away = [], set[str]()
    for digest, location in found:
        if location is not None:
            root = location.rsplit("/", 2)[0]
            if root in away:
                continue
            try:
                place_of(location).remove()
            except ArtifactsAway as error:
                away.add(root)  # a place that does not answer must not hold up the others
                log.warning("unreferenced artifacts stay for now: %s", error)
                continue
        removed.append(digest)
    session.execute(delete(Artifact).where(Artifact.digest.in_(removed)))
    return len(removed)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
