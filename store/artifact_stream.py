"""An artifact's bytes for a reader who may be slow: no transaction or connection is held while he reads."""

import hashlib
from collections.abc import Iterator

import fsspec
from sqlalchemy import select

from store.artifacts import CHUNK_BYTES, ArtifactCorrupted, ArtifactMissing
from store.database import Database
from store.tables import Artifact, ArtifactChunk


def stream_artifact(database: Database, digest: str) -> Iterator[bytes]:
    """The bytes that `digest` names, a chunk in memory at a time.

    The last chunk is given only when all were found to be right: whoever has `Artifact.size_bytes` bytes has the right
    ones. Raises ArtifactMissing, and in the middle ArtifactCorrupted.
    """
    with database.session() as session:
        row = session.get(Artifact, digest)
    if row is None:
        raise ArtifactMissing(digest)
    hasher, size_bytes, last = hashlib.sha256(), 0, b""
    for chunk in _chunks(database, row):
        hasher.update(chunk)
        size_bytes += len(chunk)
        if size_bytes > row.size_bytes:
            raise ArtifactCorrupted(digest, f"more than {row.size_bytes} bytes")
        if last:
            yield last
        last = chunk
    if size_bytes != row.size_bytes:
        raise ArtifactCorrupted(digest, f"{size_bytes} bytes instead of {row.size_bytes}")
    if "sha256:" + hasher.hexdigest() != digest:
        raise ArtifactCorrupted(digest, f"the bytes have the digest sha256:{hasher.hexdigest()}")
    yield last


def _chunks(database: Database, row: Artifact) -> Iterator[bytes]:
    if row.location is not None:
        try:
            with fsspec.open(row.location, "rb") as source:
                while piece := source.read(CHUNK_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise ArtifactCorrupted(row.digest, f"{row.location} is gone") from error
        return
    position = 0
    while True:
        # content does not change under its digest, so it needs no one transaction around it
        with database.session() as session:
            chunk = session.scalar(
                select(ArtifactChunk.data).where(ArtifactChunk.digest == row.digest, ArtifactChunk.position == position)
            )
        if chunk is None:
            return
        yield chunk
        position += 1
