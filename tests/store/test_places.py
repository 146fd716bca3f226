"""Laws of artifact bytes outside PostgreSQL. A folder and a bucket obey the same ones."""

import errno
import hashlib
import logging
import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from sqlalchemy import select, update

from darkroom.app.settings import Settings
from darkroom.store import artifacts, places
from darkroom.store.artifact_stream import stream_artifact, stream_part
from darkroom.store.artifacts import CHUNK_BYTES, ArtifactCorrupted, Artifacts, collect_artifacts
from darkroom.store.database import Database
from darkroom.store.operator_settings import OperatorSettings, SettingsError, read_settings
from darkroom.store.places import PIECE_BYTES, ArtifactsAway, StorageProbe, place_of
from darkroom.store.tables import Artifact, ArtifactChunk
from darkroom.worker.settings import ReconcilerSettings, WorkerSettings
from tests.fixtures.s3 import KEY_ID, SECRET, Bucket

SIZES = (0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 5)


def _bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


class Outside:
    """A database whose artifacts lie elsewhere, with ways to look and to damage."""

    def __init__(
        self,
        database: Database,
        digests: Callable[[], set[str]],
        damage: Callable[[str, bytes], object],
        away: Callable[[], object],
        back: Callable[[], object],
    ) -> None:
        self.database = database
        self.digests = digests
        self.damage = damage
        self.away = away
        self.back = back

    def put(self, data: bytes) -> str:
        return _put(self.database, data)

    def get(self, digest: str) -> bytes:
        with self.database.session() as session:
            return Artifacts(session).get(digest)


@pytest.fixture(params=["folder", "bucket"])
def outside(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Outside]:
    if request.param == "bucket":
        bucket: Bucket = request.getfixturevalue("bucket")
        database = Database(database_url, artifacts_url=bucket.url)
        yield Outside(database, bucket.digests, bucket.put, bucket.line.cut, bucket.line.join)
    else:
        folder, unmounted = tmp_path / "artifacts", tmp_path / "unmounted"
        folder.mkdir()
        database = Database(database_url, artifacts_url=f"file://{folder}")

        def digests() -> set[str]:
            return {"sha256:" + path.name for path in folder.rglob("*") if path.is_file()}

        def damage(digest: str, data: bytes) -> None:
            next(folder.rglob(digest.removeprefix("sha256:"))).write_bytes(data)

        yield Outside(database, digests, damage, lambda: folder.rename(unmounted), lambda: unmounted.rename(folder))
    database.dispose()


@pytest.mark.parametrize("size", SIZES)
def test_what_was_put_lies_there_and_is_got_whole_and_in_parts(outside: Outside, size: int) -> None:
    data = _bytes(size)
    digest = outside.put(data)
    assert outside.digests() == {digest} == {"sha256:" + hashlib.sha256(data).hexdigest()}
    assert outside.get(digest) == data
    assert b"".join(stream_artifact(outside.database, digest)) == data
    for start, length in ((0, 1), (PIECE_BYTES - 1, 3), (size - 2, 2)):
        if 0 <= start <= start + length <= size:
            assert b"".join(stream_part(outside.database, digest, start, length)) == data[start : start + length]
    with outside.database.session() as session:
        assert session.scalar(select(ArtifactChunk)) is None


@pytest.mark.parametrize("other", [b"", b"x", _bytes(PIECE_BYTES), _bytes(PIECE_BYTES + 2), None])
def test_damage_is_found_and_mended_by_the_right_bytes(outside: Outside, other: bytes | None) -> None:
    data = _bytes(PIECE_BYTES + 1)
    digest = outside.put(data)
    outside.damage(digest, bytes(len(data)) if other is None else other)
    with pytest.raises(ArtifactCorrupted):
        outside.get(digest)
    assert outside.put(data) == digest
    assert outside.get(digest) == data


def test_a_probe_says_whether_the_storage_can_be_used(outside: Outside, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "darkroom.store.places")
    with outside.database.session() as session:
        probe = StorageProbe(session.info["artifacts_url"])
    assert probe()
    outside.away()
    assert (probe(), probe()) == (False, False)
    outside.back()
    assert (probe(), probe()) == (True, True)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == [
        "the storage of artifacts cannot be used",
        "the storage of artifacts can be used again",
    ]
    assert outside.digests() == set()


def test_a_folder_without_rights_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert StorageProbe(str(tmp_path))()
    # these tests may run as root, to whom every folder is open
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    assert not StorageProbe(str(tmp_path))()


def test_a_folder_on_a_lost_disk_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of(str(tmp_path / "ab" / "abcd"))

    def stale(self: Path, **options: bool) -> NoReturn:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "stat", stale)  # as on a server of NFS that has lost the folder
    monkeypatch.setattr("os.stat", stale)
    for use in (place.remove, place.size, place.require_root, lambda: place.write([b"weights"])):
        with pytest.raises(ArtifactsAway):
            use()


def test_a_folder_on_a_full_disk_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = places.LEAST_FREE_BYTES
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    assert StorageProbe(str(tmp_path))()
    free -= 1
    assert not StorageProbe(str(tmp_path))()


def test_a_bucket_that_is_missing_is_an_outage_and_no_damage(bucket: Bucket, database_url: str) -> None:
    database = Database(database_url, artifacts_url=bucket.url)
    with database.session() as session:
        digest = Artifacts(session).put(b"weights")
        row = session.get_one(Artifact, digest)
        row.location = str(row.location).replace("s3://", "s3://no-")
    for stream in (stream_artifact(database, digest), stream_part(database, digest, 2, 3)):
        with pytest.raises(ArtifactsAway, match=r"bucket no-bucket-\d+ of the artifacts does not exist"):
            list(stream)
    assert not StorageProbe(bucket.url.replace("s3://", "s3://no-"))()
    database.dispose()


def test_bytes_that_are_gone_are_damage_and_no_outage(outside: Outside) -> None:
    digest = outside.put(b"weights")
    with outside.database.session() as session:
        place_of(str(session.get_one(Artifact, digest).location)).remove()
        place_of(str(session.get_one(Artifact, digest).location)).remove()  # harmless
    for read in (outside.get, lambda digest: list(stream_part(outside.database, digest, 2, 3))):
        with pytest.raises(ArtifactCorrupted, match="gone"):
            read(digest)
    outside.put(b"weights")
    assert outside.get(digest) == b"weights"


def test_an_outage_is_no_damage_and_loses_nothing(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "COLLECT_AFTER_SECONDS", 0.0)
    digest = outside.put(b"weights")
    outside.away()
    for use in (lambda: outside.get(digest), lambda: outside.put(b"weights"), lambda: outside.put(b"other")):
        with pytest.raises(ArtifactsAway):
            use()
    with outside.database.session() as session:
        assert collect_artifacts(session) == 0
    outside.back()
    assert outside.get(digest) == b"weights"


def test_an_outage_of_one_place_does_not_keep_the_bytes_of_others(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = outside.put(b"inside")
    with outside.database.session() as session:
        session.execute(update(Artifact).values(location=None))
    outside.put(b"outside")
    monkeypatch.setattr(artifacts, "COLLECT_AFTER_SECONDS", 0.0)
    outside.away()
    with outside.database.session() as session:
        assert collect_artifacts(session) == 1
        assert session.get(Artifact, inside) is None
    outside.back()
    with outside.database.session() as session:
        assert collect_artifacts(session) == 1


def test_bytes_go_to_the_present_place_if_the_one_before_is_away(outside: Outside, database_url: str) -> None:
    digest = outside.put(b"weights")
    outside.away()
    inside = Database(database_url)
    with inside.session() as session:
        Artifacts(session).put(b"weights")
        assert Artifacts(session).get(digest) == b"weights"
    outside.put(b"weights")  # has nothing to do
    outside.back()
    with inside.session() as session:
        session.execute(update(ArtifactChunk).values(data=b"damaged"))
    outside.put(b"weights")
    assert outside.get(digest) == b"weights"
    with inside.session() as session:
        assert session.scalar(select(ArtifactChunk)) is None
    inside.dispose()


def test_bytes_of_a_transaction_that_failed_are_collected(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    with suppress(Killed), outside.database.session() as session:
        digest = Artifacts(session).put(b"orphan")
        assert outside.digests() == {digest}
        raise Killed
    with outside.database.session() as session:
        assert collect_artifacts(session) == 0  # another transaction may be about to refer to it
    assert outside.digests() == {digest}
    monkeypatch.setattr(artifacts, "COLLECT_AFTER_SECONDS", 0.0)
    with outside.database.session() as session:
        assert collect_artifacts(session) == 1
    assert outside.digests() == set()
    assert outside.put(b"orphan") == digest
    assert outside.get(digest) == b"orphan"


def test_a_write_that_ends_early_leaves_no_part(outside: Outside, tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(PIECE_BYTES)
        yield bytes(PIECE_BYTES)
        raise ZeroDivisionError

    digest = outside.put(b"right")
    with outside.database.session() as session:
        place = place_of(str(session.get_one(Artifact, digest).location))
    with pytest.raises(ZeroDivisionError):
        place.write(chunks())
    assert outside.digests() == {digest}
    assert outside.get(digest) == b"right"


def test_what_a_killed_process_left_of_a_write_goes_with_its_artifact(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url, artifacts_url=str(tmp_path))
    with database.session() as session:
        digest = Artifacts(session).put(b"right")
    path = next(tmp_path.rglob(digest.removeprefix("sha256:")))
    path.with_name(f"{path.name}.1234.part").write_bytes(b"ri")
    monkeypatch.setattr(artifacts, "COLLECT_AFTER_SECONDS", 0.0)
    with database.session() as session:
        assert collect_artifacts(session) == 1
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []
    database.dispose()


def test_no_whole_copy_is_in_memory_while_bytes_are_stored_and_read(outside: Outside, tmp_path: Path) -> None:
    size, few = 12 * PIECE_BYTES, 5 * PIECE_BYTES
    source = tmp_path / "source"
    with source.open("wb") as file:
        for _ in range(size // CHUNK_BYTES):
            file.write(_bytes(CHUNK_BYTES))
    with source.open("rb") as file, outside.database.session() as session:
        tracemalloc.start()
        try:
            digest = Artifacts(session).put_file(file)
            with (tmp_path / "target").open("wb") as target:
                Artifacts(session).copy_to(digest, target)
            assert sum(map(len, stream_artifact(outside.database, digest))) == size
            assert tracemalloc.get_traced_memory()[1] < few
        finally:
            tracemalloc.stop()


URLS = (
    "artifacts",
    "./artifacts",
    "s3:///key",
    "s3://",
    "gs://bucket/artifacts",
    "http://127.0.0.1/artifacts",
    "file://s3://bucket",
    f"s3://{KEY_ID}:{SECRET}@bucket/artifacts",
    f"s3://bucket/artifacts?secret={SECRET}",
    f"ftp://ada:{SECRET}@host/artifacts",
)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("settings", [OperatorSettings, Settings, WorkerSettings, ReconcilerSettings])
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(
    url: str, settings: type[OperatorSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada@/darkroom")
    monkeypatch.setenv("REDIS_URL", "redis://host:6379/0")
    monkeypatch.setenv("DARKROOM_ARTIFACTS_URL", url)
    with pytest.raises(SettingsError, match="DARKROOM_ARTIFACTS_URL") as caught:
        read_settings(settings)
    assert "s3://BUCKET/PREFIX" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["/var/lib/artifacts", "file:///var/lib/artifacts", "s3://bucket", "s3://bucket/a/b"])
def test_a_folder_and_a_bucket_are_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_ARTIFACTS_URL", url)
    assert read_settings(OperatorSettings).artifacts_url == url
    monkeypatch.setenv("DARKROOM_ARTIFACTS_URL", "")  # as Compose passes a variable that is not set
    assert read_settings(OperatorSettings).artifacts_url is None


def _credentials(path: Path, key_id: str, secret: str) -> None:
    path.write_text(f"[default]\n[lab]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n")


def test_credentials_come_from_the_shared_file(
    bucket: Bucket, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    _credentials(file, KEY_ID, SECRET)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    database = Database(database_url, artifacts_url=bucket.url)
    with database.session() as session:
        digest = Artifacts(session).put(b"weights")
    assert bucket.digests() == {digest}

    for broken in ("", f"[lab]\naws_secret_access_key={SECRET}\n", f"{SECRET}\n", f"[lab]\n[lab]\n{SECRET}"):
        file.write_text(broken)
        places._bucket.cache_clear()
        with pytest.raises(ArtifactsAway) as caught, database.session() as session:
            Artifacts(session).get(digest)
        assert str(file) in str(caught.value)
        assert SECRET not in "".join(map(str, (caught.value, caught.value.__cause__)))
    database.dispose()


def _put(database: Database, data: bytes) -> str:
    with database.session() as session:
        return Artifacts(session).put(data)


def test_an_error_tells_the_cause_and_no_credentials(
    bucket: Bucket, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    missing = Database(database_url, artifacts_url="s3://nobodys/artifacts")
    with (
        pytest.raises(ArtifactsAway, match="bucket nobodys of the artifacts does not exist"),
        missing.session() as session,
    ):
        Artifacts(session).put(b"weights")
    missing.dispose()

    database = Database(database_url, artifacts_url=bucket.url)
    with bucket.line.being_cut(), pytest.raises(ArtifactsAway, match="s3://bucket-") as caught:
        _put(database, b"weights")
    database.dispose()
    error: BaseException | None = caught.value
    while error is not None:
        for secret in (SECRET, KEY_ID):
            assert secret not in str(error)
        error = error.__cause__
    for secret in (SECRET, KEY_ID):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "http://", f"http://ada:{SECRET}@host", "http://host:port", "ftp://host"]
)
def test_an_endpoint_that_cannot_be_used_is_refused_and_not_repeated(
    endpoint: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL") as caught:
        read_settings(OperatorSettings)
    assert SECRET not in str(caught.value)
    with pytest.raises(ArtifactsAway, match="AWS_ENDPOINT_URL") as away:
        place_of(f"{bucket.url}/ab/abcd").size()
    assert SECRET not in str(away.value)
