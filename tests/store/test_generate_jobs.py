"""Laws of generate jobs in the store: every row in one shard, one assembly, and a status that follows from the jobs."""

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update

from darkroom.store.artifact_stream import stream_artifact
from darkroom.store.artifacts import CHUNK_BYTES, ArtifactCorrupted, ArtifactMissing, Artifacts
from darkroom.store.database import Database
from darkroom.store.generate_repository import (
    GenerateJobNotFound,
    assemble_what_is_ready,
    cancel_generate_job,
    get_generate_job,
    list_generate_jobs,
    lock_generate_job,
    progress_of,
    queue_assembly,
    retry_generate_job,
    submit_generate_job,
    succeed_shard,
)
from darkroom.store.job_forms import GenerateRun, SampleWork
from darkroom.store.job_repository import Claimant, Failure, JobConflict, Lease, claim_job, fail, hold, stop, succeed
from darkroom.store.model_repository import resolve
from darkroom.store.part_repository import parts_within, record_part, record_result
from darkroom.store.tables import Artifact, ArtifactChunk, GenerateJob, Job
from tests.generate_jobs import RUN, claim, parts, status, submit

ROUNDS = 10


def at_once(*actions: Callable[[], object]) -> None:
    """Run the actions in threads that begin together; raises the error of one that fails."""
    barrier = threading.Barrier(len(actions))
    faults: list[Exception] = []

    def run(action: Callable[[], object]) -> None:
        barrier.wait()
        try:
            action()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fault in faults:
        raise fault


def jobs(database: Database, generate_job_id: int, kind: str = "sample") -> Sequence[Job]:
    with database.session() as session:
        query = select(Job).where(Job.generate_job_id == generate_job_id, Job.kind == kind).order_by(Job.id)
        return session.scalars(query).all()


def end(database: Database, how: str) -> None:
    """Claim the most urgent job and end it as `how` says."""
    job, lease = claim(database)
    with database.session() as session:
        if how == "succeeded":
            succeed(session, lease)
        elif how == "failed":
            fail(session, lease, Failure("test", f"job {job.id} failed"))


@pytest.mark.parametrize(
    ("classes", "per_class", "shard_images"), [(1, 1, 1), (3, 4, 5), (3, 4, 12), (3, 4, 100), (2, 7, 1), (10, 10, 33)]
)
def test_every_row_is_in_exactly_one_shard(database: Database, classes: int, per_class: int, shard_images: int) -> None:
    number = submit(database, shard_images, class_indices=tuple(range(classes)), images_per_class=per_class)
    works = [SampleWork.model_validate(job.configuration) for job in jobs(database, number)]
    rows = [row for work in works for row in range(work.first_row, work.first_row + work.rows)]
    assert rows == list(range(classes * per_class))
    assert all(1 <= work.rows <= shard_images for work in works)
    assert [job.total_images for job in jobs(database, number)] == [work.rows for work in works]


def test_one_assembly_however_many_look_at_once(database: Database) -> None:
    for _ in range(ROUNDS):
        number = submit(database, 12)
        end(database, "succeeded")

        def look() -> None:
            with database.session() as session:
                assemble_what_is_ready(session)

        at_once(*[look] * 4)
        assert len(jobs(database, number, "assemble")) == 1
        end(database, "failed")


def test_one_assembly_when_the_last_shards_succeed_at_once(database: Database) -> None:
    """Each looks in its own transaction, which cannot see the other's success yet."""
    for _ in range(ROUNDS):
        number = submit(database, 4)
        leases = [claim(database)[1] for _ in range(3)]

        def finish(lease: Lease) -> None:
            with database.session() as session:
                succeed_shard(session, lease)

        at_once(*[partial(finish, lease) for lease in leases])
        assert len(jobs(database, number, "assemble")) == 1
        end(database, "failed")


def test_cancelling_at_the_moment_of_the_last_success_leaves_nothing_running(database: Database) -> None:
    for _ in range(ROUNDS):
        number = submit(database, 12)
        _, lease = claim(database)

        def finish(lease: Lease = lease) -> None:
            with database.session() as session:
                succeed_shard(session, lease)
            with database.session() as session:
                assemble_what_is_ready(session)

        def cancel(number: int = number) -> None:
            with database.session() as session:
                cancel_generate_job(session, number)

        at_once(finish, cancel)
        left = [job.status for job in (*jobs(database, number), *jobs(database, number, "assemble"))]
        # A shard may succeed although its generate job is cancelled. The next look then assembles it.
        assert left in (["succeeded", "cancelled"], ["succeeded", "queued"], ["succeeded"])
        with database.session() as session:
            session.execute(
                update(Job).where(Job.status == "queued").values(status="cancelled", finished_at=func.now())
            )


def test_an_assembly_may_be_tried_as_often_as_the_shards(database: Database) -> None:
    number = submit(database, 12)
    with database.session() as session:
        session.execute(update(Job).values(max_attempts=7))
    end(database, "succeeded")
    with database.session() as session:
        assert queue_assembly(session, number)
    assert [job.max_attempts for job in jobs(database, number, "assemble")] == [7]


def test_an_assembly_goes_before_the_shards_of_others(database: Database) -> None:
    number = submit(database, 12)
    end(database, "succeeded")
    submit(database, 4)
    with database.session() as session:
        assemble_what_is_ready(session)
    job, _ = claim(database)
    assert (job.kind, job.generate_job_id) == ("assemble", number)


@pytest.mark.parametrize(
    ("shards", "assembly", "expected"),
    [
        (["queued", "queued"], None, "queued"),
        (["running", "queued"], None, "running"),
        (["succeeded", "queued"], None, "running"),
        (["succeeded", "running"], None, "running"),
        (["failed", "running"], None, "running"),
        (["cancelling", "cancelled"], None, "cancelling"),
        (["cancelled", "cancelled"], None, "cancelled"),
        (["succeeded", "cancelled"], None, "cancelled"),
        (["failed", "succeeded"], None, "failed"),
        (["failed", "cancelled"], None, "failed"),
        (["succeeded", "succeeded"], None, "running"),
        (["succeeded", "succeeded"], "queued", "running"),
        (["succeeded", "succeeded"], "running", "running"),
        (["succeeded", "succeeded"], "cancelling", "cancelling"),
        (["succeeded", "succeeded"], "cancelled", "cancelled"),
        (["succeeded", "succeeded"], "failed", "failed"),
    ],
)
def test_the_status_follows_from_the_jobs(
    database: Database, shards: list[str], assembly: str | None, expected: str
) -> None:
    number = submit(database, 6)

    def force(job: Job, wanted: str) -> None:
        values: dict[str, Any] = {"status": wanted}
        if wanted in ("running", "cancelling"):
            values["lease_expires_at"] = func.now()
        if wanted in ("succeeded", "failed", "cancelled"):
            values["finished_at"] = func.now()
        if wanted == "succeeded":
            values["images_done"] = job.total_images
        if wanted == "failed":
            values["failure"] = Failure("test", f"the {job.kind} job").as_json()
        with database.session() as session:
            session.execute(update(Job).where(Job.id == job.id).values(**values))

    for job, wanted in zip(jobs(database, number), shards, strict=True):
        force(job, wanted)
    if assembly is not None:
        with database.session() as session:
            assert queue_assembly(session, number)
        force(jobs(database, number, "assemble")[0], assembly)
    with database.session() as session:
        row, _ = get_generate_job(session, number)
        progress = progress_of(session, [row])[number]
    assert progress.status == expected
    assert sum(progress.shards.values()) == 2
    assert progress.images_done == 6 * shards.count("succeeded")
    assert (progress.failure is not None) == ("failed" in (*shards, assembly))
    if progress.failure is not None:
        assert progress.failure["detail"] == f"the {'assemble' if assembly == 'failed' else 'sample'} job"


def test_a_retry_queues_what_failed_or_was_cancelled_and_nothing_else(database: Database) -> None:
    number = submit(database, 4)
    end(database, "succeeded")
    end(database, "failed")
    with database.session() as session:
        cancel_generate_job(session, number)
    assert status(database, number) == "failed"
    with database.session() as session:
        retried = [job.id for job in retry_generate_job(session, number)]
    first, second, third = jobs(database, number)
    assert sorted(retried) == [second.id, third.id]
    assert [first.status, second.status, third.status] == ["succeeded", "queued", "queued"]
    assert second.failure is None
    with database.session() as session, pytest.raises(JobConflict):
        retry_generate_job(session, number)
    for how in ("succeeded", "succeeded"):
        end(database, how)
    with database.session() as session:
        assemble_what_is_ready(session)
    end(database, "failed")
    assert status(database, number) == "failed"
    with database.session() as session:
        assert assemble_what_is_ready(session) == 0  # no part was damaged, so a retry would fail again
        assert [job.kind for job in retry_generate_job(session, number)] == ["assemble"]


def test_a_running_shard_is_asked_to_stop_and_the_rest_never_begins(database: Database) -> None:
    number = submit(database, 4)
    _, lease = claim(database)
    with database.session() as session:
        cancel_generate_job(session, number)
    assert [job.status for job in jobs(database, number)] == ["cancelling", "cancelled", "cancelled"]
    with database.session() as session:
        cancel_generate_job(session, number)  # asking twice is harmless
        stop(session, lease)
    assert status(database, number) == "cancelled"
    with database.session() as session:
        assert claim_job(session, Claimant("test", "cpu"), 60.0) is None
    with database.session() as session, pytest.raises(JobConflict):
        cancel_generate_job(session, number)


def test_what_is_not_there_is_not_found(database: Database) -> None:
    for ask in (get_generate_job, cancel_generate_job, retry_generate_job):
        with database.session() as session, pytest.raises(GenerateJobNotFound):
            ask(session, 1)


def test_the_list_has_each_once_newest_first(database: Database) -> None:
    made = [submit(database, 12) for _ in range(5)]
    seen: list[int] = []
    before = None
    while True:
        with database.session() as session:
            page = list_generate_jobs(session, before=before, limit=2)
        if not page:
            break
        seen += [row.id for row, _ in page]
        before = seen[-1]
        assert all(checkpoint.model.name == "tiny" for _, checkpoint in page)
    assert seen == made[::-1]


def test_a_request_that_is_rolled_back_leaves_nothing(database: Database) -> None:
    submit(database)
    with database.session() as session:
        submit_generate_job(session, resolve(session, "tiny"), GenerateRun.model_validate(RUN), shard_images=5)
        session.rollback()
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(GenerateJob)) == 1
        assert session.scalar(select(func.count()).select_from(Job)) == 3


def test_a_part_that_is_stored_twice_is_stored_once(database: Database) -> None:
    """The worker repeats a commit when it did not get the answer."""
    submit(database, 12)
    job, lease = claim(database)
    for data in (b"first", b"first", b"again"):
        with database.session() as session:
            record_part(session, lease, 0, 4, data)
        with database.session() as session:
            assert hold(session, lease).images_done == 4
    with database.session() as session:
        record_part(session, lease, 4, 8, b"rest")
        assert hold(session, lease).images_done == 12
    assert [(part.first_row, part.rows) for part in parts(database)] == [(0, 4), (4, 8)]
    with database.session() as session:
        assert job.generate_job_id is not None
        assert [part.first_row for part in parts_within(session, job.generate_job_id, 1, 11)] == [4]
        assert Artifacts(session).get(parts(database)[0].digest) == b"again"


def test_a_shard_stores_a_part_while_its_generate_job_is_locked(database: Database) -> None:
    """The lock's holder may wait for the shard's record, which the worker locks. The worker must not wait in turn."""
    number = submit(database, 12)
    _, lease = claim(database)
    with database.session() as holding:
        lock_generate_job(holding, number)
        with database.session() as session:
            session.execute(text("SET LOCAL lock_timeout = '10s'"))
            record_part(session, lease, 0, 2, b"part")
        assert [part.first_row for part in parts(database)] == [0]


def test_a_result_takes_the_place_of_the_parts(database: Database, tmp_path: Any) -> None:
    number = submit(database, 12)
    _, lease = claim(database)
    with database.session() as session:
        record_part(session, lease, 0, 12, b"part")
        succeed(session, lease)
    with database.session() as session:
        queue_assembly(session, number)
    _, lease = claim(database)
    file = tmp_path / "result"
    file.write_bytes(b"result")
    with file.open("rb") as opened, database.session() as session:
        digest = record_result(session, lease, opened)
    with database.session() as session:
        succeed(session, lease)
        assert get_generate_job(session, number)[0].result_digest == digest
        assert Artifacts(session).get(digest) == b"result"
    assert not parts(database)
    assert status(database, number) == "succeeded"
    with database.session() as session:
        assert not queue_assembly(session, number)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5])
@pytest.mark.parametrize("outside", [False, True])
def test_a_stream_gives_the_bytes_and_holds_no_connection(
    database_url: str, tmp_path: Any, size: int, outside: bool
) -> None:
    database = Database(database_url, artifacts_url=str(tmp_path) if outside else None)
    data = random.Random(size).randbytes(size)
    with database.session() as session:
        digest = Artifacts(session).put(data)
    received = b""
    for chunk in stream_artifact(database, digest):
        assert database.engine.pool.checkedout() == 0
        received += chunk
    assert received == data
    database.dispose()


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "drop", "append"])
def test_a_damaged_stream_never_reaches_its_size(database: Database, position: int, damage: str) -> None:
    data = random.Random(3).randbytes(2 * CHUNK_BYTES + 7)
    with database.session() as session:
        digest = Artifacts(session).put(data)
        here = (ArtifactChunk.digest == digest) & (ArtifactChunk.position == position)
        chunk = session.scalars(select(ArtifactChunk.data).where(here)).one()
        if damage == "drop":
            session.execute(delete(ArtifactChunk).where(here))
        elif damage == "append":
            session.add(ArtifactChunk(digest=digest, position=3, data=b"more"))
        else:
            wrong = {"flip": bytes([chunk[0] ^ 128]) + chunk[1:], "cut": chunk[:-1], "grow": chunk + b"x"}[damage]
            session.execute(update(ArtifactChunk).where(here).values(data=wrong))
    received: list[bytes] = []
    with pytest.raises(ArtifactCorrupted):
        received.extend(stream_artifact(database, digest))
    assert sum(map(len, received)) < len(data)


def test_a_stream_of_nothing_known_is_refused(database: Database) -> None:
    with pytest.raises(ArtifactMissing):
        next(stream_artifact(database, "sha256:" + "0" * 64))


def test_discarded_bytes_can_be_stored_anew(database: Database) -> None:
    with database.session() as session:
        digest = Artifacts(session).put(b"right")
        session.execute(update(ArtifactChunk).values(data=b"wrong"))
    with database.session() as session:
        Artifacts(session).discard(digest)
        Artifacts(session).discard(digest)  # harmless
        assert session.get(Artifact, digest) is None
    with database.session() as session:
        assert Artifacts(session).put(b"right") == digest
        assert Artifacts(session).get(digest) == b"right"
