"""What jobs keep: a training job its newest checkpoints while it runs, and every ended job its records for some days.

A mark (`keep`) on a job or a version protects what belongs to it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, SQLColumnExpression, delete, func, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from darkroom.store.clock import seconds
from darkroom.store.counters import count
from darkroom.store.job_repository import UNFINISHED
from darkroom.store.tables import (
    Checkpoint,
    GenerateJob,
    Job,
    JobCheckpoint,
    JobEvent,
    JobLogLine,
    JobMetric,
    ModelAlias,
)

STATES_KEPT = 2
"""How many states a job keeps while it runs: the newest, and one more in case it is damaged."""

Part = Literal["states", "points", "logs", "events"]
"""Parts of an ended job's records: training states, curve points, log lines, events. The last point and event stay."""

DAY_SECONDS = 86_400.0
JOBS_AT_ONCE = 20
RECORDS_AT_ONCE = 5000


def retain(session: Session, job: Job, keep_last: int) -> None:
    """Delete states and weights that are no longer needed.

    The newest states stay. So do the last few weights, the best of every job, those with an alias or a mark, and those
    from which an unfinished job begins. `register_checkpoint` has locked the model's record, so no alias moves
    meanwhile. `store.artifacts.collect_artifacts` deletes the bytes once nothing refers to them.
    """
    saved = select(JobCheckpoint.images_seen).where(JobCheckpoint.job_id == job.id)
    newest = saved.where(JobCheckpoint.state_digest.is_not(None)).order_by(JobCheckpoint.images_seen.desc())
    session.execute(
        update(JobCheckpoint)
        .where(
            JobCheckpoint.job_id == job.id,
            JobCheckpoint.images_seen.not_in(newest.limit(STATES_KEPT)),
            *_free_state(),
        )
        .values(state_digest=None)
    )
    mine = select(JobCheckpoint.checkpoint_id).where(JobCheckpoint.job_id == job.id)
    last = mine.order_by(JobCheckpoint.images_seen.desc()).limit(keep_last)
    of_others = (JobCheckpoint.checkpoint_id == Checkpoint.id) & (JobCheckpoint.job_id != job.id)
    child = aliased(Job)
    begins_with = (
        child.is_training,
        child.status.in_(UNFINISHED),
        child.configuration["start"]["digest"].as_string() == Checkpoint.digest,
    )
    drawn_from = (GenerateJob.checkpoint_id == Checkpoint.id) & GenerateJob.result_digest.is_(None)
    session.execute(
        update(Checkpoint)
        .where(
            Checkpoint.id.in_(mine),
            Checkpoint.id.not_in(last),
            ~Checkpoint.keep,
            ~select(1).where(of_others).exists(),
            ~select(1).where(*begins_with).exists(),
            ~select(1).where(drawn_from).exists(),
            ~select(1).where(Job.best_checkpoint_id == Checkpoint.id).exists(),
            ~select(1).where(ModelAlias.checkpoint_id == Checkpoint.id).exists(),
        )
        .values(artifact_digest=None)
        .execution_options(synchronize_session=False)
    )


def expire(session: Session, part: Part, days: float, limit: int = RECORDS_AT_ONCE) -> Mapping[Job, int]:
    """Delete at most `limit` records of jobs that ended more than `days` ago; returns how many of each job.

    A job with a mark keeps everything. One that made a version with a mark or an alias keeps its points, logs and
    events, and such a version with a mark its state. Weights and figures are never deleted. Two calls do no harm.
    """
    records = _RECORDS[part]
    surplus = select(1).where(records.job_id == Job.id, *records.surplus)
    jobs = session.scalars(
        select(Job)
        .where(
            Job.finished_at < func.now() - seconds(days * DAY_SECONDS),
            Job.removed[part].as_string().is_(None),
            ~Job.keep,
            *records.of_jobs,
            surplus.where(*records.free).exists(),
        )
        .order_by(Job.finished_at)
        .limit(JOBS_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    if not jobs:
        return {}
    ids = [job.id for job in jobs]
    key = (records.job_id, records.key)
    chosen = select(*key).where(records.job_id.in_(ids), *records.surplus, *records.free).order_by(*key).limit(limit)
    deleted = Counter(session.scalars(records.delete(tuple_(*key).in_(chosen))))
    left = session.scalars(select(Job.id).where(Job.id.in_(ids), surplus.exists())).all()
    for job in jobs:
        if job.id not in left:
            note_removed(session, job, part, f"removed after {days:g} {'day' if days == 1.0 else 'days'}")
    if deleted:
        count(session, "retention_removed", part, deleted.total())
    return {job: deleted[job.id] for job in jobs if deleted[job.id]}


def note_removed(session: Session, job: Job, part: Part, why: str) -> None:
    """Write into a job's record that all of a part was deleted. The caller has locked the record."""
    at = session.scalars(select(func.now())).one()
    job.removed = {**job.removed, part: {"at": at.isoformat(), "why": why}}


def _free_state() -> list[ColumnElement[bool]]:
    """Return the conditions under which nothing but its own job needs a state."""
    child = aliased(Job)
    begins_there = (
        child.parent_id == JobCheckpoint.job_id,
        child.status.in_(UNFINISHED),
        child.configuration["start"]["images_seen"].as_integer() == JobCheckpoint.images_seen,
    )
    marked = (Checkpoint.id == JobCheckpoint.checkpoint_id, Checkpoint.keep)
    return [~select(1).where(*begins_there).exists(), ~select(1).where(*marked).exists()]


def _not_needed() -> ColumnElement[bool]:
    """Return the condition that no version of a job has a mark or an alias."""
    saved = aliased(JobCheckpoint)
    pointed = select(1).where(ModelAlias.checkpoint_id == Checkpoint.id).exists()
    of_job = (saved.job_id == Job.id, Checkpoint.id == saved.checkpoint_id)
    return ~select(1).where(*of_job, Checkpoint.keep | pointed).exists()


@dataclass(frozen=True)
class _Records:
    """The records of a part. job_id, key: their primary key. of_jobs: of the jobs whose records may be deleted.

    surplus: of a job's records that are not the last one. free: of those that nothing else needs.
    """

    job_id: SQLColumnExpression[int]
    key: SQLColumnExpression[int]
    delete: Any
    surplus: Sequence[ColumnElement[bool]] = ()
    of_jobs: Sequence[ColumnElement[bool]] = ()
    free: Sequence[ColumnElement[bool]] = ()


_later = aliased(JobMetric)
_event_count = select(Job.event_count).where(Job.id == JobEvent.job_id).scalar_subquery()

_RECORDS: Mapping[Part, _Records] = {
    "states": _Records(
        JobCheckpoint.job_id,
        JobCheckpoint.images_seen,
        lambda chosen: (
            update(JobCheckpoint)
            .where(chosen)
            .values(state_digest=None)
            .returning(JobCheckpoint.job_id)
            .execution_options(synchronize_session=False)
        ),
        surplus=[JobCheckpoint.state_digest.is_not(None)],
        of_jobs=[Job.kind == "train"],
        free=_free_state(),
    ),
    "points": _Records(
        JobMetric.job_id,
        JobMetric.images_seen,
        lambda chosen: delete(JobMetric).where(chosen).returning(JobMetric.job_id),
        surplus=[
            select(1).where(_later.job_id == JobMetric.job_id, _later.images_seen > JobMetric.images_seen).exists()
        ],
        of_jobs=[Job.kind == "train", _not_needed()],
    ),
    "logs": _Records(
        JobLogLine.job_id,
        JobLogLine.number,
        lambda chosen: delete(JobLogLine).where(chosen).returning(JobLogLine.job_id),
        of_jobs=[Job.log_line_count > 0, _not_needed()],
    ),
    "events": _Records(
        JobEvent.job_id,
        JobEvent.number,
        lambda chosen: delete(JobEvent).where(chosen).returning(JobEvent.job_id),
        surplus=[JobEvent.number < _event_count],
        of_jobs=[_not_needed()],
    ),
}
