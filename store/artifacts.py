"""Artifact bytes, addressed by their SHA-256 and checked against it on every read."""

import hashlib
from typing import Protocol

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from store.tables import Artifact, ArtifactChunk

CHUNK_BYTES = 1 << 20


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


class ArtifactStore(Protocol):
    """Keeps bytes by content. Storing the same content twice stores it once."""

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest ("sha256:" and 64 hexadecimal digits)."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes that `digest` names; raises ArtifactMissing or ArtifactCorrupted."""
        ...


def digest_of(data: bytes) -> str:
    """The content address of `data`: "sha256:" and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class PostgresArtifacts:
    """An ArtifactStore in PostgreSQL. It works in the caller's transaction: rows and bytes commit together."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        # a second writer of the same content waits here for the first one's commit, then has nothing to do
        created = self._session.scalar(
            upsert(Artifact)
            .values(digest=digest, size_bytes=len(data))
            .on_conflict_do_nothing()
            .returning(Artifact.digest)
        )
        if created is not None:
            for position, start in enumerate(range(0, len(data), CHUNK_BYTES)):
                chunk = data[start : start + CHUNK_BYTES]
                self._session.execute(insert(ArtifactChunk).values(digest=digest, position=position, data=chunk))
        return digest

    def get(self, digest: str) -> bytes:
        size_bytes = self._session.scalar(select(Artifact.size_bytes).where(Artifact.digest == digest))
        if size_bytes is None:
            raise ArtifactMissing(digest)
        chunks = self._session.scalars(
            select(ArtifactChunk.data)
            .where(ArtifactChunk.digest == digest)
            .order_by(ArtifactChunk.position)
            .execution_options(yield_per=16)
        )
        data = b"".join(chunks)
        if len(data) != size_bytes:
            raise ArtifactCorrupted(digest, f"{len(data)} bytes instead of {size_bytes}")
        found = digest_of(data)
        if found != digest:
            raise ArtifactCorrupted(digest, f"the bytes have the digest {found}")
        return data
