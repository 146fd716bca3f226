"""Streams an artifact's bytes to a slow reader without holding a transaction or connection meanwhile."""

from collections.abc import Iterator

from sqlalchemy import select

from darkroom.store.artifacts import CHUNK_BYTES, ArtifactMissing, Artifacts, checked, read_location
from darkroom.store.database import Database
from darkroom.store.tables import Artifact, ArtifactChunk


def stream_artifact(database: Database, digest: str) -> Iterator[bytes]:
    """Yield the bytes that `digest` names, with one chunk in memory at a time.

    The last chunk comes only after the digest was checked. So a reader with `Artifact.size_bytes` bytes has the right
    ones. Raises ArtifactMissing, and in the middle ArtifactCorrupted.
    """
    with database.session() as session:
        row = session.get(Artifact, digest)
    if row is None:
        raise ArtifactMissing(digest)
    last = b""
    for chunk in checked(row, _chunks(database, row) if row.location is None else read_location(row)):
        if last:
            yield last
        last = chunk
    yield last


def stream_part(database: Database, digest: str, start: int, size: int) -> Iterator[bytes]:
    """Yield `size` of the bytes that `digest` names, from `start`. A part cannot be checked against the digest.

    Raises ArtifactMissing, ArtifactCorrupted.
    """
    end = start + size
    while start < end:
        with database.session() as session:
            piece = Artifacts(session).piece(digest, start, min(end - start, CHUNK_BYTES - start % CHUNK_BYTES))
        yield piece
        start += len(piece)


def _chunks(database: Database, row: Artifact) -> Iterator[bytes]:
    position = 0
    while True:
        # the content of a digest never changes, so it needs no transaction around all reads
        with database.session() as session:
            chunk = session.scalar(
                select(ArtifactChunk.data).where(ArtifactChunk.digest == row.digest, ArtifactChunk.position == position)
            )
        if chunk is None:
            return
        yield chunk
        position += 1
