"""Laws of retention: what an ended job keeps, for how long, and what marks and aliases protect.

The database's clock stands still within a transaction, and each test is one.
"""

from collections.abc import Iterable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.aliases import set_alias
from darkroom.store.artifacts import Artifacts
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.clock import seconds
from darkroom.store.counters import read_counters
from darkroom.store.job_forms import ContinueFrom
from darkroom.store.job_repository import (
    Claimant,
    Failure,
    Lease,
    add_event,
    claim_job,
    events_after,
    fail,
    request_cancel,
    requeue,
    submit_job,
    succeed,
)
from darkroom.store.retention import DAY_SECONDS, Part, expire
from darkroom.store.run_repository import append_log, kept_states, log_after, record_checkpoint, record_curve_points
from darkroom.store.tables import Checkpoint, Job, JobMetric

DAYS = 7.0
PARTS: tuple[Part, ...] = ("states", "points", "logs", "events")
WHOLE = {"states": 2, "points": 3, "logs": 4, "events": 5}


def _submit(session: Session, model_name: str = "m") -> Job:
    return submit_job(session, kind="train", model_name=model_name, configuration={}, total_images=10)


def _run(session: Session, *, keep_last: int = 2, model_name: str = "m") -> Job:
    """Run a job that stores the records of WHOLE, and has not ended."""
    job_id = _submit(session, model_name).id
    job = claim_job(session, Claimant("worker", "cpu"), 600.0)
    assert job is not None
    assert job.id == job_id
    record_curve_points(session, job, [CurvePoint(images, 1.0, 1.0, 1.0, 1.0, 1) for images in (2, 4, 6)])
    append_log(session, job, ["a", "b", "c", "d"])
    _save(session, job, (2, 4), keep_last)
    session.flush()
    return job


def _save(session: Session, job: Job, at: Iterable[int], keep_last: int) -> None:
    """Store a checkpoint with its state at each of these numbers of images."""
    for images in at:
        record_checkpoint(
            session,
            job,
            images,
            weights=f"weights {job.id} {images}".encode(),
            state_digest=Artifacts(session).put(f"state {job.id} {images}".encode()),
            configuration={},
            class_names=["a"],
            keep_last=keep_last,
        )


def _end(session: Session, job: Job, days: float, *, failed: bool = False) -> Job:
    """End the job so many days ago."""
    lease = Lease(job.id, job.attempt)
    if failed:
        fail(session, lease, Failure("crashed", "it did"))
    else:
        succeed(session, lease)
    job.finished_at = func.now() - seconds(days * DAY_SECONDS)
    session.flush()
    return job


def _ended(session: Session, days: float = DAYS + 1.0, *, failed: bool = False) -> Job:
    return _end(session, _run(session), days, failed=failed)


def _stored(session: Session, job: Job) -> dict[str, int]:
    session.flush()
    return {
        "states": len(kept_states(session, job.id)),
        "points": session.scalars(select(func.count()).where(JobMetric.job_id == job.id)).one(),
        "logs": len(log_after(session, job.id, 0)),
        "events": len(events_after(session, job.id, 0)),
    }


def _expire(session: Session) -> dict[int, int]:
    """Expire all parts; returns how many records of each job were deleted."""
    found: dict[int, int] = {}
    for part in PARTS:
        for job, records in expire(session, part, DAYS).items():
            found[job.id] = found.get(job.id, 0) + records
    return found


def _checkpoint(session: Session, job: Job, images: int) -> Checkpoint:
    return session.scalars(
        select(Checkpoint).where(Checkpoint.images_seen == images).order_by(Checkpoint.id.desc()).limit(1)
    ).one()


@pytest.mark.parametrize("failed", [False, True])
def test_an_ended_job_loses_its_records_when_its_time_is_over(session: Session, failed: bool) -> None:
    job, young = _ended(session, failed=failed), _ended(session, DAYS - 0.01, failed=failed)
    assert _stored(session, job) == WHOLE
    assert _expire(session) == {job.id: 2 + 2 + 4 + 4}
    # the last point and the last event stay: lists show the loss, and a stream of events ends
    assert _stored(session, job) == {"states": 0, "points": 1, "logs": 0, "events": 1}
    assert events_after(session, job.id, 0)[0].number == job.event_count
    assert session.scalars(select(JobMetric.images_seen).where(JobMetric.job_id == job.id)).one() == 6
    assert _stored(session, young) == WHOLE
    assert young.removed == {}
    now = session.scalars(select(func.now())).one().isoformat()
    assert job.removed == {part: {"at": now, "why": "removed after 7 days"} for part in PARTS}
    counters = read_counters(session)
    assert {part: counters["retention_removed", part] for part in PARTS} == {
        "states": 2,
        "points": 2,
        "logs": 4,
        "events": 4,
    }
    assert _expire(session) == {}


def test_weights_and_figures_stay(session: Session) -> None:
    job = _ended(session)
    _expire(session)
    kept = session.scalars(select(Checkpoint).order_by(Checkpoint.id)).all()
    assert [Artifacts(session).get(str(one.artifact_digest)) for one in kept] == [
        f"weights {job.id} {images}".encode() for images in (2, 4)
    ]


def test_a_job_that_has_not_ended_keeps_everything(session: Session) -> None:
    running = _run(session)
    queued = _end(session, _run(session), DAYS + 1.0, failed=True)
    requeue(session, queued.id, was="failed")
    assert _expire(session) == {}
    assert _stored(session, running) == WHOLE | {"events": 4}  # it has not ended


def test_few_records_are_deleted_at_once_and_the_rest_later(session: Session) -> None:
    job = _ended(session)
    assert expire(session, "logs", DAYS, 3) == {job: 3}
    assert job.removed == {}
    assert [line.line for line in log_after(session, job.id, 0)] == ["d"]
    assert expire(session, "logs", DAYS, 3) == {job: 1}
    assert list(job.removed) == ["logs"]


def test_a_mark_on_the_job_keeps_everything_until_it_is_taken_off(session: Session) -> None:
    job = _ended(session)
    job.keep = True
    assert _expire(session) == {}
    assert _stored(session, job) == WHOLE
    job.keep = False
    assert _expire(session) == {job.id: 12}


def test_the_job_of_a_promoted_version_keeps_its_records_without_the_states(session: Session) -> None:
    job = _ended(session)
    set_alias(session, COMMAND_LINE, "m", "production", 1)
    assert _expire(session) == {job.id: 2}
    assert _stored(session, job) == WHOLE | {"states": 0}
    assert list(job.removed) == ["states"]


def test_a_marked_version_keeps_its_state_and_the_jobs_records(session: Session) -> None:
    job = _ended(session)
    marked = _checkpoint(session, job, 4)
    marked.keep = True
    assert _expire(session) == {job.id: 1}
    assert [images for images, _ in kept_states(session, job.id)] == [4]
    assert job.removed == {}
    marked.keep = False
    assert _expire(session) == {job.id: 1 + 2 + 4 + 4}
    assert sorted(job.removed) == sorted(PARTS)


def test_a_running_job_keeps_the_weights_and_the_state_of_a_marked_version(session: Session) -> None:
    job = _run(session, keep_last=1)
    first = session.scalars(select(Checkpoint).order_by(Checkpoint.id).limit(1)).one()
    session.refresh(first)
    assert first.artifact_digest is None
    marked = _checkpoint(session, job, 4)
    marked.keep = True
    _save(session, job, (6, 8, 10), keep_last=1)
    session.refresh(marked)
    assert marked.artifact_digest is not None
    assert [images for images, _ in kept_states(session, job.id)] == [10, 8, 4]


def test_the_state_from_which_a_queued_job_begins_stays(session: Session) -> None:
    job = _ended(session)
    child = submit_job(
        session,
        kind="train",
        model_name="m",
        configuration={"start": ContinueFrom(job_id=job.id, images_seen=4).model_dump()},
        total_images=10,
        parent_id=job.id,
    )
    assert expire(session, "states", DAYS) == {job: 1}
    assert [images for images, _ in kept_states(session, job.id)] == [4]
    request_cancel(session, child.id)
    assert expire(session, "states", DAYS) == {job: 1}


def test_a_job_that_runs_again_stores_anew(session: Session) -> None:
    job = _ended(session, failed=True)
    expire(session, "logs", DAYS)
    requeue(session, job.id, was="failed")
    assert job.removed == {}
    add_event(session, job, "note", {"detail": "again"})
    append_log(session, job, ["e"])
    assert [line.number for line in log_after(session, job.id, 0)] == [5]
