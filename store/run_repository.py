"""The record of a training run: curve points, checkpoints, states, sample grids, figures, log lines.

Functions that write take the job's record from `store.job_repository.hold`, so that an attempt whose claim is over
writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Float, Select, cast, delete, func, select, true, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, aliased

from darkroom.model.figure import Figure
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast, plain_verdict
from darkroom.store.artifacts import Artifacts
from darkroom.store.checkpoint_repository import register_checkpoint
from darkroom.store.counters import count
from darkroom.store.figure_repository import record_figures, saved_with
from darkroom.store.job_repository import add_event
from darkroom.store.retention import retain
from darkroom.store.tables import (
    Checkpoint,
    Evaluation,
    Job,
    JobCheckpoint,
    JobLogLine,
    JobMetric,
    JobSamples,
    ReferenceStatistics,
)


def record_curve_points(session: Session, job: Job, points: Sequence[CurvePoint]) -> None:
    """Store curve points and the job's progress. A point replaces one at the same number of images.

    The job's total follows the newest point: a run that ends by the clock knows its number of images only at its end.
    """
    if not points:
        return
    new = upsert(JobMetric).values([{"job_id": job.id, **asdict(point)} for point in points])
    changed = {field.name: new.excluded[field.name] for field in fields(CurvePoint) if field.name != "images_seen"}
    session.execute(new.on_conflict_do_update(index_elements=[JobMetric.job_id, JobMetric.images_seen], set_=changed))
    if points[-1].seconds_left is not None:
        job.total_images = max(1, points[-1].total_images)
    _advance(session, job, points[-1].images_seen)


def forget_beyond(session: Session, job: Job, images_seen: int) -> None:
    """Delete the curve points after `images_seen`, because training goes on from there and writes them again."""
    session.execute(delete(JobMetric).where(JobMetric.job_id == job.id, JobMetric.images_seen > images_seen))
    job.images_done = images_seen


def record_checkpoint(
    session: Session,
    job: Job,
    images_seen: int,
    *,
    weights: bytes,
    state_digest: str,
    weights_digest: str | None = None,
    configuration: Mapping[str, Any],
    class_names: Sequence[str],
    keep_last: int,
) -> Checkpoint:
    """Register weights and state together, and delete older ones (`store/retention.py`).

    state_digest: of the state. weights_digest: of the weights, if they are stored. The same transaction has stored them
    before it locked the job's record, because that may take long.
    """
    checkpoint = register_checkpoint(
        session,
        model_name=job.model_name,
        data=weights,
        configuration=configuration,
        class_names=class_names,
        images_seen=images_seen,
        metrics={},
        source="trained",
        api_key_id=job.api_key_id,
        stored=weights_digest,
    )
    row = {"job_id": job.id, "images_seen": images_seen, "checkpoint_id": checkpoint.id, "state_digest": state_digest}
    session.execute(
        upsert(JobCheckpoint)
        .values(row)
        .on_conflict_do_update(
            index_elements=[JobCheckpoint.job_id, JobCheckpoint.images_seen],
            set_={"checkpoint_id": checkpoint.id, "state_digest": state_digest},
        )
    )
    job.failures = 0  # progress resets the count
    add_event(
        session,
        job,
        "checkpoint",
        {"images_seen": images_seen, "version": checkpoint.version, "digest": checkpoint.digest},
    )
    session.flush()
    retain(session, job, keep_last)
    _advance(session, job, images_seen)
    return checkpoint


def record_samples(session: Session, job: Job, images_seen: int, digest: str) -> None:
    """Store a sample grid. digest: of its PNG, which is stored."""
    session.execute(
        upsert(JobSamples)
        .values(job_id=job.id, images_seen=images_seen, digest=digest)
        .on_conflict_do_update(index_elements=[JobSamples.job_id, JobSamples.images_seen], set_={"digest": digest})
    )
    add_event(session, job, "samples", {"images_seen": images_seen})


def record_verdict(
    session: Session, job: Job, images_seen: int, findings: Sequence[Finding], forecast: Forecast | None = None
) -> None:
    """Store what a look at a training found, with the job and its checkpoint at `images_seen`, if there is one.

    An event tells the first verdict, each one that differs from the one before in more than numbers, and each new
    forecast.
    """
    before = None if job.verdict is None else [Finding(**one).subject for one in job.verdict["findings"]]
    told = None if job.verdict is None else job.verdict.get("forecast")
    job.verdict = plain_verdict(images_seen, findings, forecast)
    at = select(JobCheckpoint.checkpoint_id).where(
        JobCheckpoint.job_id == job.id, JobCheckpoint.images_seen == images_seen
    )
    session.execute(update(Checkpoint).where(Checkpoint.id.in_(at)).values(verdict=job.verdict))
    if before != [finding.subject for finding in findings] or job.verdict["forecast"] not in (None, told):
        add_event(session, job, "verdict", job.verdict)
    for finding in findings:
        if finding.subject not in (before or ()):
            count(session, "training_findings", f"{finding.kind}:{finding.severity}")


def record_evaluations(session: Session, job: Job, images_seen: int, figures: Sequence[Figure]) -> None:
    """Store figures of the checkpoint at `images_seen`, and mark the job's best checkpoint.

    The first figure decides; lower values of its metric are better (`DECIDING`).
    """
    if not figures:
        return
    checkpoint_id = _saved_at(session, job, images_seen)
    record_figures(session, checkpoint_id, "evaluation", figures)
    session.execute(
        update(Checkpoint)
        .where(Checkpoint.id == checkpoint_id)
        .values(metrics=Checkpoint.metrics.concat({figure.metric: figure.value for figure in figures}))
    )
    for figure in figures:
        told = {"metric": figure.metric, "value": figure.value, "seconds": figure.seconds}
        add_event(session, job, "evaluation", {"images_seen": images_seen, **told})
    best = _best(session, job.id, figures[0])
    if best is not None and best != job.best_checkpoint_id:
        job.best_checkpoint_id = best
        told = {"checkpoint_id": best, "metric": figures[0].metric}
        add_event(session, job, "best", {"images_seen": images_seen, **told})


def record_frontier(session: Session, job: Job, images_seen: int, figures: Sequence[Figure]) -> None:
    """Store points of the frontier of the checkpoint at `images_seen`."""
    record_figures(session, _saved_at(session, job, images_seen), "frontier", figures)
    for figure in figures:
        told = {name: figure.protocol.get(name) for name in ("sampler", "steps")}
        told |= {"metric": figure.metric, "value": figure.value}
        add_event(session, job, "frontier", {"images_seen": images_seen, **told})


def append_log(session: Session, job: Job, lines: Sequence[str]) -> None:
    """Store log lines of the work process."""
    for line in lines:
        job.log_line_count += 1
        session.add(JobLogLine(job_id=job.id, number=job.log_line_count, attempt=job.attempt, line=line))


def log_after(session: Session, job_id: int, number: int, limit: int = 500) -> Sequence[JobLogLine]:
    """Up to `limit` log lines after the line with that number, in order."""
    return session.scalars(
        select(JobLogLine)
        .where(JobLogLine.job_id == job_id, JobLogLine.number > number)
        .order_by(JobLogLine.number)
        .limit(limit)
    ).all()


def kept_states(session: Session, job_id: int, *, at: int | None = None) -> Sequence[tuple[int, str]]:
    """The stored states as (images seen, digest), newest first. at: only the state at so many images."""
    query = select(JobCheckpoint.images_seen, JobCheckpoint.state_digest).where(
        JobCheckpoint.job_id == job_id, JobCheckpoint.state_digest.is_not(None)
    )
    if at is not None:
        query = query.where(JobCheckpoint.images_seen == at)
    rows = session.execute(query.order_by(JobCheckpoint.images_seen.desc())).all()
    return [(images_seen, str(digest)) for images_seen, digest in rows]


def job_checkpoints(session: Session, job_id: int) -> Sequence[tuple[JobCheckpoint, Checkpoint]]:
    """The checkpoints of a job, newest first."""
    rows = session.execute(
        select(JobCheckpoint, Checkpoint)
        .join(Checkpoint, Checkpoint.id == JobCheckpoint.checkpoint_id)
        .where(JobCheckpoint.job_id == job_id)
        .order_by(JobCheckpoint.images_seen.desc())
    ).all()
    return [(saved, checkpoint) for saved, checkpoint in rows]


def forked(session: Session, checkpoint_ids: Sequence[int]) -> set[int]:
    """Those of the checkpoints whose job began with another version's weights."""
    return set(
        session.scalars(
            select(JobCheckpoint.checkpoint_id)
            .join(Job, Job.id == JobCheckpoint.job_id)
            .where(JobCheckpoint.checkpoint_id.in_(checkpoint_ids), Job.configuration["start"]["model"].is_not(None))
        )
    )


def job_samples(session: Session, job_id: int) -> Sequence[JobSamples]:
    """The sample grids of a job, oldest first."""
    return session.scalars(select(JobSamples).where(JobSamples.job_id == job_id).order_by(JobSamples.images_seen)).all()


def newest_points() -> Select[int, CurvePoint]:
    """A query for the newest curve point of each job, to which the caller adds which jobs."""
    newest = (
        select(JobMetric).where(JobMetric.job_id == Job.id).order_by(JobMetric.images_seen.desc()).limit(1).lateral()
    )
    return select(Job.id, aliased(JobMetric, newest).point).join(newest, true())


def job_curve(session: Session, job_id: int, points: int) -> Sequence[CurvePoint]:
    """A job's curve as up to `points` means over equal parts of its length, in order."""
    width = func.greatest(1, select(Job.total_images).where(Job.id == job_id).scalar_subquery())
    bucket = (JobMetric.images_seen - 1) * points / width
    rows = session.execute(
        select(
            func.max(JobMetric.images_seen),
            func.avg(JobMetric.loss),
            func.avg(JobMetric.gradient_norm),
            func.avg(JobMetric.learning_rate),
            func.avg(JobMetric.images_per_second),
            cast(func.max(JobMetric.memory_bytes), Float),
        )
        .where(JobMetric.job_id == job_id)
        .group_by(func.floor(bucket))
        .order_by(func.max(JobMetric.images_seen))
    ).all()
    return [CurvePoint(row[0], row[1], row[2], row[3], row[4], int(row[5])) for row in rows]


def reference_statistics(session: Session, key: str) -> bytes | None:
    """The stored statistics of a data set, or None. Raises ArtifactCorrupted."""
    digest = session.scalar(select(ReferenceStatistics.digest).where(ReferenceStatistics.key == key))
    return None if digest is None else Artifacts(session).get(digest)


def store_reference_statistics(session: Session, key: str, data: bytes) -> None:
    """Store the statistics of a data set for the next evaluation."""
    digest = Artifacts(session).put(data)
    session.execute(
        upsert(ReferenceStatistics)
        .values(key=key, digest=digest)
        .on_conflict_do_update(index_elements=[ReferenceStatistics.key], set_={"digest": digest})
    )


def _advance(session: Session, job: Job, images_seen: int) -> None:
    """Store the progress, and count the images since the last call. A resumed run counts repeated images again."""
    trained = images_seen - job.images_done
    job.images_done = images_seen
    job.total_images = max(job.total_images, images_seen)  # where the clock decides, the total is an estimate
    if trained > 0:
        count(session, "training_images", by=trained)  # after the changes above, which it writes in one UPDATE


def _saved_at(session: Session, job: Job, images_seen: int) -> int:
    """The job's checkpoint at `images_seen`."""
    return session.scalars(
        select(JobCheckpoint.checkpoint_id).where(
            JobCheckpoint.job_id == job.id, JobCheckpoint.images_seen == images_seen
        )
    ).one()


def _best(session: Session, job_id: int, like: Figure) -> int | None:
    """The job's checkpoint with the lowest value of that metric and protocol; the earlier one of equal values."""
    return session.scalars(
        select(Evaluation.checkpoint_id)
        .join(JobCheckpoint, saved_with("evaluation"))
        .where(
            JobCheckpoint.job_id == job_id,
            Evaluation.metric == like.metric,
            Evaluation.protocol_digest == like.protocol_digest,
        )
        .order_by(Evaluation.value, JobCheckpoint.images_seen)
        .limit(1)
    ).one_or_none()
