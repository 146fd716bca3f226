"""What Prometheus reads of the jobs: queries whose work grows with what is unfinished, never with what is done."""

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
"""A statement that takes longer is given up."""


@dataclass(frozen=True, slots=True)
class JobStatistics:
    """The jobs at one moment.

    unfinished: how many by kind and status. queue_age_seconds: how long the oldest runnable job has waited, by kind, of
    kinds that have one. trainings: by job the newest point of the TRAININGS_TOLD newest ones under way that have told
    something. workers_alive: by device. device_faults: those of them whose device fails its test. counters: totals by
    name and label (`store.counters`).
    """

    unfinished: Mapping[tuple[JobKind, JobStatus], int]
    queue_age_seconds: Mapping[JobKind, float]
    trainings: Mapping[int, CurvePoint]
    workers_alive: Mapping[str, int]
    device_faults: Mapping[str, int]
    counters: Mapping[tuple[str, str], float]


def read_job_statistics(session: Session, worker_fresh_seconds: float) -> JobStatistics:
    """Count; at most TIMEOUT_SECONDS a statement, then sqlalchemy.exc.OperationalError.

    worker_fresh_seconds: a worker that was not seen for so long is taken for dead.
    """
    session.execute(text(f"SET LOCAL statement_timeout = '{TIMEOUT_SECONDS}s'"))
    unfinished: dict[tuple[JobKind, JobStatus], int] = {}
    queue_age_seconds: dict[JobKind, float] = {}
    # written into the statements as in the partial indexes, which a parameter could not be proved to imply
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
