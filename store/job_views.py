"""Jobs as lists and tables show them: any number of them in a fixed number of queries."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, select, true
from sqlalchemy.orm import Session

from darkroom.model.metric_names import decision_order, higher_is_better
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.figure_repository import saved_with
from darkroom.store.run_repository import newest_points
from darkroom.store.tables import Checkpoint, Dataset, Evaluation, Job, JobCheckpoint, JobStatus


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """The checkpoint with the lowest value of a metric. Compare only values with equal protocol_digest."""

    version: int
    digest: str
    images_seen: int
    metric: str
    value: float
    protocol_digest: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A train job with facts from other tables. last: its newest curve point, None before the first."""

    job: Job
    dataset_name: str | None
    last: CurvePoint | None
    best: BestCheckpoint | None


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The facts of a job that change while a client watches it. event_count: events so far. last: as in JobView."""

    status: JobStatus
    event_count: int
    images_done: int
    total_images: int
    last: CurvePoint | None


def view_jobs(session: Session, jobs: Sequence[Job]) -> list[JobView]:
    """Views of the jobs, in the same order."""
    names = _dataset_names(session, {job.dataset_id for job in jobs if job.dataset_id is not None})
    last = last_curve_points(session, [job.id for job in jobs])
    best = _best_checkpoints(session, jobs)
    return [
        JobView(job, names.get(job.dataset_id) if job.dataset_id else None, last.get(job.id), best.get(job.id))
        for job in jobs
    ]


def last_curve_points(session: Session, job_ids: Iterable[int]) -> Mapping[int, CurvePoint]:
    """The newest curve point of each job that has one."""
    return dict(session.execute(newest_points().where(Job.id.in_(list(job_ids)))).all())


def glimpse_jobs(session: Session, job_ids: Collection[int]) -> Mapping[int, Glimpse]:
    """A glimpse of each of these train jobs that exists, by id."""
    rows = session.execute(
        select(Job.id, Job.status, Job.event_count, Job.images_done, Job.total_images).where(
            Job.id.in_(list(job_ids)), Job.is_training
        )
    ).all()
    last = last_curve_points(session, job_ids)
    return {row[0]: Glimpse(row[1], row[2], row[3], row[4], last.get(row[0])) for row in rows}


def best_figures(session: Session, job_ids: Iterable[int], metric: str) -> Mapping[int, BestCheckpoint]:
    """Each job's best value of a metric: the lowest, for some metrics the highest. Of equal values, the earlier one."""
    best_first = Evaluation.value.desc() if higher_is_better(metric) else Evaluation.value
    lowest = (
        select(
            Checkpoint.version,
            Checkpoint.digest,
            JobCheckpoint.images_seen,
            Evaluation.value,
            Evaluation.protocol_digest,
        )
        .join(JobCheckpoint, JobCheckpoint.checkpoint_id == Checkpoint.id)
        .join(Evaluation, saved_with("evaluation"))
        .where(JobCheckpoint.job_id == Job.id, Evaluation.metric == metric)
        .order_by(best_first, JobCheckpoint.images_seen)
        .limit(1)
        .lateral()
    )
    rows = session.execute(select(Job.id, *lowest.c).join(lowest, true()).where(Job.id.in_(list(job_ids)))).all()
    return {
        job_id: BestCheckpoint(version, digest, images_seen, metric, value, protocol)
        for job_id, version, digest, images_seen, value, protocol in rows
    }


def measured(session: Session, job_ids: Iterable[int]) -> Sequence[str]:
    """The metrics of the evaluations of these jobs' checkpoints.

    First come those that decide which checkpoint is best, in their order, then the others in alphabetical order.
    """
    found = session.scalars(
        select(Evaluation.metric)
        .join(JobCheckpoint, saved_with("evaluation"))
        .where(JobCheckpoint.job_id.in_(list(job_ids)))
        .distinct()
    ).all()
    return sorted(found, key=decision_order)


def _dataset_names(session: Session, dataset_ids: Iterable[int]) -> Mapping[int, str]:
    rows = session.execute(select(Dataset.id, Dataset.name).where(Dataset.id.in_(list(dataset_ids)))).all()
    return {row.id: row.name for row in rows}


def _best_checkpoints(session: Session, jobs: Sequence[Job]) -> Mapping[int, BestCheckpoint]:
    """The jobs' best checkpoints, with the figure that made them the best."""
    wanted = [job.id for job in jobs if job.best_checkpoint_id is not None]
    if not wanted:
        return {}
    saved = and_(JobCheckpoint.job_id == Job.id, JobCheckpoint.checkpoint_id == Job.best_checkpoint_id)
    of_figure = (Evaluation.metric, Evaluation.value, Evaluation.protocol_digest)
    columns = (Checkpoint.version, Checkpoint.digest, JobCheckpoint.images_seen, *of_figure)
    rows = session.execute(
        select(Job.id, *columns)
        .join(Checkpoint, Checkpoint.id == Job.best_checkpoint_id)
        .join(JobCheckpoint, saved)
        .join(Evaluation, saved_with("evaluation"))
        .where(Job.id.in_(wanted))
        .order_by(Evaluation.created_at)
    ).all()
    deciding_last = sorted(
        rows, key=lambda row: decision_order(row.metric), reverse=True
    )  # a later record replaces an earlier one
    return {
        job_id: BestCheckpoint(version, digest, images_seen, metric, value, protocol)
        for job_id, version, digest, images_seen, metric, value, protocol in deciding_last
    }
