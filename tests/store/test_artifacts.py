"""Laws of content addressing."""

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from darkroom.store.artifact_stream import stream_part
from darkroom.store.artifacts import CHUNK_BYTES, ArtifactCorrupted, ArtifactMissing, Artifacts
from darkroom.store.database import Database
from darkroom.store.places import ArtifactsFull
from darkroom.store.tables import Artifact, ArtifactChunk


def _bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5])
def test_what_was_put_is_got_under_its_sha256(session: Session, size: int) -> None:
    data = _bytes(size)
    digest = Artifacts(session).put(data)
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert Artifacts(session).get(digest) == data
    pieces = list(session.scalars(select(func.length(ArtifactChunk.data)).order_by(ArtifactChunk.position)))
    assert sum(pieces) == size
    assert all(piece == CHUNK_BYTES for piece in pieces[:-1])


def test_the_same_content_is_stored_once(session: Session) -> None:
    data = _bytes(CHUNK_BYTES + 1)
    store = Artifacts(session)
    assert store.put(data) == store.put(data)
    assert session.scalar(select(func.count()).select_from(Artifact)) == 1
    assert session.scalar(select(func.count()).select_from(ArtifactChunk)) == 2


def test_simultaneous_writers_of_one_content_agree(database: Database) -> None:
    data = _bytes(CHUNK_BYTES + 7)
    start = threading.Barrier(4)
    digests: list[str] = []

    def write() -> None:
        start.wait()
        with database.session() as session:
            digests.append(Artifacts(session).put(data))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4
    with database.session() as session:
        assert Artifacts(session).get(digests[0]) == data


@pytest.mark.parametrize(
    ("start", "size"), [(0, 1), (CHUNK_BYTES - 3, 7), (5, 2 * CHUNK_BYTES), (2 * CHUNK_BYTES + 1, 4), (9, 0)]
)
def test_a_part_holds_the_bytes_of_its_place(database: Database, start: int, size: int) -> None:
    data = _bytes(2 * CHUNK_BYTES + 5)
    with database.session() as session:
        digest = Artifacts(session).put(data)
    pieces = list(stream_part(database, digest, start, size))
    assert b"".join(pieces) == data[start : start + size]
    assert all(len(piece) <= CHUNK_BYTES for piece in pieces)


def test_a_part_of_damaged_bytes_is_refused(database: Database) -> None:
    with database.session() as session:
        digest = Artifacts(session).put(_bytes(2 * CHUNK_BYTES))
        session.execute(delete(ArtifactChunk).where(ArtifactChunk.digest == digest, ArtifactChunk.position == 1))
    with pytest.raises(ArtifactCorrupted):
        list(stream_part(database, digest, CHUNK_BYTES - 2, 4))


def test_an_unknown_digest_is_missing(session: Session) -> None:
    with pytest.raises(ArtifactMissing):
        Artifacts(session).get("sha256:" + "0" * 64)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_flipped_bit_is_found(session: Session, position: int) -> None:
    data = _bytes(2 * CHUNK_BYTES + 9)
    digest = Artifacts(session).put(data)
    chunk = (ArtifactChunk.digest == digest) & (ArtifactChunk.position == position)
    flipped = bytearray(session.scalars(select(ArtifactChunk.data).where(chunk)).one())
    flipped[len(flipped) // 2] ^= 0b100
    session.execute(update(ArtifactChunk).where(chunk).values(data=bytes(flipped)))
    with pytest.raises(ArtifactCorrupted):
        Artifacts(session).get(digest)
    assert Artifacts(session).put(data) == digest
    assert Artifacts(session).get(digest) == data


def test_a_lost_or_misplaced_chunk_is_found(session: Session) -> None:
    digest = Artifacts(session).put(_bytes(2 * CHUNK_BYTES))
    session.execute(update(ArtifactChunk).where(ArtifactChunk.position == 0).values(position=7))
    with pytest.raises(ArtifactCorrupted):
        Artifacts(session).get(digest)
    session.delete(session.get_one(ArtifactChunk, (digest, 7)))
    session.flush()
    with pytest.raises(ArtifactCorrupted):
        Artifacts(session).get(digest)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
def test_a_beginning_is_read_without_the_rest(database_url: str, tmp_path: Path, size: int, outside: bool) -> None:
    database = Database(database_url, artifacts_url=str(tmp_path) if outside else None)
    data = _bytes(size)
    with database.session() as session:
        store = Artifacts(session)
        digest = store.put(data)
        for wanted in (0, 8, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES):
            assert store.beginning(digest, wanted) == data[:wanted]
            for start in (1, CHUNK_BYTES - 1, CHUNK_BYTES, size + 1):
                assert store.piece(digest, start, wanted) == data[start : start + wanted]
        with pytest.raises(ArtifactMissing):
            store.beginning("sha256:" + "0" * 64, 8)
    database.dispose()


def test_bytes_that_do_not_fit_on_the_disk_leave_nothing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url, artifacts_url=str(tmp_path))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactsFull, match="No space left"), database.session() as session:
        Artifacts(session).put(_bytes(2 * CHUNK_BYTES))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    database.dispose()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_beginning_whose_bytes_are_not_there_is_found(session: Session, lost: int) -> None:
    data = _bytes(3 * CHUNK_BYTES)
    digest = Artifacts(session).put(data)
    session.delete(session.get_one(ArtifactChunk, (digest, lost)))
    session.flush()
    if lost:
        assert Artifacts(session).beginning(digest, CHUNK_BYTES) == data[:CHUNK_BYTES]
    with pytest.raises(ArtifactCorrupted):
        Artifacts(session).beginning(digest, CHUNK_BYTES + 1)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"other")])
def test_bytes_outside_the_database_are_checked_and_mended_too(
    database_url: str, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    outside, inside = Database(database_url, artifacts_url=str(tmp_path)), Database(database_url)
    data = _bytes(CHUNK_BYTES + 1)
    with outside.session() as session:
        digest = Artifacts(session).put(data)
    with inside.session() as session:
        assert Artifacts(session).get(digest) == data
        damage(next(path for path in tmp_path.rglob("*") if path.is_file()))
        for read in (Artifacts(session).get, lambda digest: Artifacts(session).beginning(digest, 8)):
            with pytest.raises(ArtifactCorrupted):
                read(digest)
        Artifacts(session).put(data)
        assert Artifacts(session).get(digest) == data
    for database in (outside, inside):
        database.dispose()
