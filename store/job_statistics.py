"""Statistics of jobs for Prometheus. The queries cost time for unfinished jobs, never for finished ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, literal_column, select, text
from sqlalchemy.orm import Session

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.clock import seconds
from darkroom.store.counters import read_counters
from darkroom.store.run_repository import newest_points
from darkroom.store.tables import Job, JobKind, JobStatus, Worker

TRAININGS_TOLD = 50
TIMEOUT_SECONDS = 5
"""A statement that takes longer is cancelled."""


@dataclass(frozen=True, slots=True)
class JobStatistics:
    """The jobs at one moment.

    unfinished: counts by kind and status.
    queue_age_seconds: the wait of the oldest runnable job, by kind; without an entry for kinds that have none.
    trainings: the newest curve point of each of the TRAININGS_TOLD newest running trainings that have one, by job.
    workers_alive: counts by device. device_faults: counts of those whose device fails its test, by device.
    counters: totals by name and label (`store.counters`).
    """

    unfinished: Mapping[tuple[JobKind, JobStatus], int]
    queue_age_seconds: Mapping[JobKind, float]
    trainings: Mapping[int, CurvePoint]
    workers_alive: Mapping[str, int]
    device_faults: Mapping[str, int]
    counters: Mapping[tuple[str, str], float]


def read_job_statistics(session: Session, worker_fresh_seconds: float) -> JobStatistics:
    """Count. `Database.session` raises DatabaseBusy when a statement takes more than TIMEOUT_SECONDS.

    worker_fresh_seconds: a worker that was not seen for longer counts as dead.
    """
    session.execute(text(f"SET LOCAL statement_timeout = '{TIMEOUT_SECONDS}s'"))
    unfinished: dict[tuple[JobKind, JobStatus], int] = {}
    queue_age_seconds: dict[JobKind, float] = {}
    # literals, as in the partial indexes: PostgreSQL cannot use such an index for a parameter
    is_queued = Job.status == literal_column("'queued'")
    has_lease = Job.lease_expires_at.is_not(None)
    waiting_seconds = func.extract("epoch", func.max(func.now() - Job.not_before))
    for kind, count, age in session.execute(
        select(Job.kind, func.count(), waiting_seconds).where(is_queued).group_by(Job.kind)
    ):
        unfinished[kind, "queued"] = count
        if age > 0.0:
            queue_age_seconds[kind] = float(age)
    for kind, status, count in session.execute(
        select(Job.kind, Job.status, func.count()).where(has_lease).group_by(Job.kind, Job.status)
    ):
        unfinished[kind, status] = count
    trainings = session.execute(
        newest_points().where(has_lease, Job.is_training).order_by(Job.id.desc()).limit(TRAININGS_TOLD)
    ).all()
    workers = session.execute(
        select(Worker.device, func.count().label("alive"), func.count(Worker.device_fault).label("faulty"))
        .where(Worker.seen_at > func.now() - seconds(worker_fresh_seconds))
        .group_by(Worker.device)
    ).all()
    return JobStatistics(
        unfinished,
        queue_age_seconds,
        dict(trainings),
        {row.device: row.alive for row in workers},
        {row.device: row.faulty for row in workers},
        read_counters(session),
    )
