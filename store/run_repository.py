"""What a training run leaves behind: metrics, checkpoints, states, samples, evaluations, log lines.

The functions that write take the job's row as `store.job_repository.hold` gave it, so that nothing is written by an
attempt whose claim is over.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, aliased

from store.artifacts import Artifacts
from store.checkpoint_repository import register_checkpoint
from store.counters import count
from store.job_repository import UNFINISHED, add_event
from store.tables import (
    Checkpoint,
    Evaluation,
    GenerateJob,
    Job,
    JobCheckpoint,
    JobLogLine,
    JobMetric,
    JobSamples,
    ModelAlias,
    ReferenceStatistics,
)

STATES_KEPT = 2
"""Training states kept of a job: the newest, and the one before in case that one is damaged."""


@dataclass(frozen=True, slots=True)
class MetricLine:
    """Means of training since the line before. learning_rate: of the last batch; memory_bytes: peak."""

    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class EvaluationLine:
    """A figure with everything that determines it."""

    metric: str
    value: float
    protocol: Mapping[str, Any]
    protocol_digest: str
    seconds: float


def record_metrics(session: Session, job: Job, lines: Sequence[MetricLine]) -> None:
    """Store lines and the job's progress; a line that is there already is replaced."""
    if not lines:
        return
    new = upsert(JobMetric).values(
        [{"job_id": job.id, **{name: getattr(line, name) for name in MetricLine.__slots__}} for line in lines]
    )
    changed = {name: new.excluded[name] for name in MetricLine.__slots__ if name != "images_seen"}
    session.execute(new.on_conflict_do_update(index_elements=[JobMetric.job_id, JobMetric.images_seen], set_=changed))
    _advance(session, job, lines[-1].images_seen)


def forget_beyond(session: Session, job: Job, images_seen: int) -> None:
    """Training goes on from `images_seen`: the lines after it will be written again."""
    session.execute(delete(JobMetric).where(JobMetric.job_id == job.id, JobMetric.images_seen > images_seen))
    job.images_done = images_seen


def record_checkpoint(
    session: Session,
    job: Job,
    images_seen: int,
    *,
    weights: bytes,
    state_digest: str,
    configuration: Mapping[str, Any],
    class_names: Sequence[str],
    keep_last: int,
) -> Checkpoint:
    """Register weights and state together, and let go of what retention no longer keeps.

    state_digest: of the training state, stored beforehand in the same transaction, without the job's row held.
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
    job.failures = 0  # there is progress
    add_event(
        session,
        job,
        "checkpoint",
        {"images_seen": images_seen, "version": checkpoint.version, "digest": checkpoint.digest},
    )
    session.flush()
    _retain(session, job, keep_last)
    _advance(session, job, images_seen)
    return checkpoint


def record_samples(session: Session, job: Job, images_seen: int, picture: bytes) -> None:
    """Store a grid of samples as PNG."""
    digest = Artifacts(session).put(picture)
    session.execute(
        upsert(JobSamples)
        .values(job_id=job.id, images_seen=images_seen, digest=digest)
        .on_conflict_do_update(index_elements=[JobSamples.job_id, JobSamples.images_seen], set_={"digest": digest})
    )
    add_event(session, job, "samples", {"images_seen": images_seen})


def record_evaluations(session: Session, job: Job, images_seen: int, lines: Sequence[EvaluationLine]) -> None:
    """Store figures of the checkpoint at `images_seen` and mark the job's best.

    The first line decides which one that is; of its metric, lower values are better (`model.metrics.names.DECIDING`).
    """
    checkpoint_id = session.scalars(
        select(JobCheckpoint.checkpoint_id).where(
            JobCheckpoint.job_id == job.id, JobCheckpoint.images_seen == images_seen
        )
    ).one()
    for line in lines:
        values = {"value": line.value, "protocol": dict(line.protocol), "seconds": line.seconds}
        key = {"checkpoint_id": checkpoint_id, "metric": line.metric, "protocol_digest": line.protocol_digest}
        session.execute(
            upsert(Evaluation).values(**key, **values).on_conflict_do_update(index_elements=list(key), set_=values)
        )
        session.execute(
            update(Checkpoint)
            .where(Checkpoint.id == checkpoint_id)
            .values(metrics=Checkpoint.metrics.concat({line.metric: line.value}))
        )
        add_event(
            session,
            job,
            "evaluation",
            {"images_seen": images_seen, "metric": line.metric, "value": line.value, "seconds": line.seconds},
        )
    if lines:
        best = _best(session, job.id, lines[0])
        if best is not None and best != job.best_checkpoint_id:
            job.best_checkpoint_id = best
            add_event(
                session, job, "best", {"images_seen": images_seen, "checkpoint_id": best, "metric": lines[0].metric}
            )


def evaluated(session: Session, job_id: int, images_seen: int) -> bool:
    """Whether the job's checkpoint at `images_seen` has a figure."""
    found = session.scalar(
        select(func.count())
        .select_from(JobCheckpoint)
        .join(Evaluation, Evaluation.checkpoint_id == JobCheckpoint.checkpoint_id)
        .where(JobCheckpoint.job_id == job_id, JobCheckpoint.images_seen == images_seen)
    )
    return bool(found)


def append_log(session: Session, job: Job, lines: Sequence[str]) -> None:
    """Store lines that the training process wrote."""
    for line in lines:
        job.log_line_count += 1
        session.add(JobLogLine(job_id=job.id, number=job.log_line_count, attempt=job.attempt, line=line))


def log_after(session: Session, job_id: int, number: int, limit: int = 500) -> Sequence[JobLogLine]:
    """At most `limit` log lines behind the one with that number, in order."""
    return session.scalars(
        select(JobLogLine)
        .where(JobLogLine.job_id == job_id, JobLogLine.number > number)
        .order_by(JobLogLine.number)
        .limit(limit)
    ).all()


def kept_states(session: Session, job_id: int, *, at: int | None = None) -> Sequence[tuple[int, str]]:
    """(images seen, digest) of the training states that are kept, newest first. at: only that of so many images."""
    query = select(JobCheckpoint.images_seen, JobCheckpoint.state_digest).where(
        JobCheckpoint.job_id == job_id, JobCheckpoint.state_digest.is_not(None)
    )
    if at is not None:
        query = query.where(JobCheckpoint.images_seen == at)
    rows = session.execute(query.order_by(JobCheckpoint.images_seen.desc())).all()
    return [(images_seen, str(digest)) for images_seen, digest in rows]


def job_checkpoints(session: Session, job_id: int) -> Sequence[tuple[JobCheckpoint, Checkpoint]]:
    """What a job has saved, newest first."""
    rows = session.execute(
        select(JobCheckpoint, Checkpoint)
        .join(Checkpoint, Checkpoint.id == JobCheckpoint.checkpoint_id)
        .where(JobCheckpoint.job_id == job_id)
        .order_by(JobCheckpoint.images_seen.desc())
    ).all()
    return [(saved, checkpoint) for saved, checkpoint in rows]


def job_evaluations(session: Session, job_id: int) -> Sequence[tuple[int, Checkpoint, Evaluation]]:
    """(images seen, checkpoint, figure) of a job in the order of images seen."""
    rows = session.execute(
        select(JobCheckpoint.images_seen, Checkpoint, Evaluation)
        .join(Checkpoint, Checkpoint.id == JobCheckpoint.checkpoint_id)
        .join(Evaluation, Evaluation.checkpoint_id == Checkpoint.id)
        .where(JobCheckpoint.job_id == job_id)
        .order_by(JobCheckpoint.images_seen, Evaluation.metric)
    ).all()
    return [(images_seen, checkpoint, figure) for images_seen, checkpoint, figure in rows]


def evaluations_of(session: Session, checkpoint_ids: Collection[int]) -> Mapping[int, Sequence[Evaluation]]:
    """By checkpoint its figures; no entry where nothing was measured."""
    found: dict[int, list[Evaluation]] = {}
    for figure in session.scalars(
        select(Evaluation)
        .where(Evaluation.checkpoint_id.in_(list(checkpoint_ids)))
        .order_by(Evaluation.checkpoint_id, Evaluation.metric, Evaluation.protocol_digest)
    ):
        found.setdefault(figure.checkpoint_id, []).append(figure)
    return found


def job_samples(session: Session, job_id: int) -> Sequence[JobSamples]:
    """The sample grids of a job, oldest first."""
    return session.scalars(select(JobSamples).where(JobSamples.job_id == job_id).order_by(JobSamples.images_seen)).all()


def job_metrics(session: Session, job_id: int, points: int) -> Sequence[MetricLine]:
    """A job's metrics as at most `points` means over equal stretches of its length, in order."""
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
    return [MetricLine(row[0], row[1], row[2], row[3], row[4], int(row[5])) for row in rows]


def reference_statistics(session: Session, key: str) -> bytes | None:
    """A data set's stored features; None when nobody has computed them. Raises ArtifactCorrupted."""
    digest = session.scalar(select(ReferenceStatistics.digest).where(ReferenceStatistics.key == key))
    return None if digest is None else Artifacts(session).get(digest)


def store_reference_statistics(session: Session, key: str, data: bytes) -> None:
    """Keep a data set's features for the next evaluation."""
    digest = Artifacts(session).put(data)
    session.execute(
        upsert(ReferenceStatistics)
        .values(key=key, digest=digest)
        .on_conflict_do_update(index_elements=[ReferenceStatistics.key], set_={"digest": digest})
    )


def _advance(session: Session, job: Job, images_seen: int) -> None:
    """Note the progress, and count the images since the last time; those that a resumed run repeats count again."""
    if images_seen > job.images_done:
        count(session, "training_images", by=images_seen - job.images_done)
    job.images_done = images_seen


def _best(session: Session, job_id: int, like: EvaluationLine) -> int | None:
    """The job's checkpoint with the lowest value of that metric and protocol; the earlier one of equals."""
    return session.scalars(
        select(Evaluation.checkpoint_id)
        .join(JobCheckpoint, JobCheckpoint.checkpoint_id == Evaluation.checkpoint_id)
        .where(
            JobCheckpoint.job_id == job_id,
            Evaluation.metric == like.metric,
            Evaluation.protocol_digest == like.protocol_digest,
        )
        .order_by(Evaluation.value, JobCheckpoint.images_seen)
        .limit(1)
    ).one_or_none()


def _retain(session: Session, job: Job, keep_last: int) -> None:
    """Let go of states but the newest, and of weights but the last few, the best of any job and those with an alias;
    never of what an unfinished job begins from.

    The model's row is locked by `register_checkpoint`, so no alias moves meanwhile. The bytes go when nothing refers to
    them any more (`store.artifacts.collect_artifacts`).
    """
    saved = select(JobCheckpoint.images_seen).where(JobCheckpoint.job_id == job.id)
    newest = saved.where(JobCheckpoint.state_digest.is_not(None)).order_by(JobCheckpoint.images_seen.desc())
    child = aliased(Job)
    begins_there = (
        select(1)
        .where(
            child.parent_id == job.id,
            child.status.in_(UNFINISHED),
            child.configuration["start"]["images_seen"].as_integer() == JobCheckpoint.images_seen,
        )
        .exists()
    )
    session.execute(
        update(JobCheckpoint)
        .where(
            JobCheckpoint.job_id == job.id,
            JobCheckpoint.images_seen.not_in(newest.limit(STATES_KEPT)),
            ~begins_there,
        )
        .values(state_digest=None)
    )
    mine = select(JobCheckpoint.checkpoint_id).where(JobCheckpoint.job_id == job.id)
    last = mine.order_by(JobCheckpoint.images_seen.desc()).limit(keep_last)
    of_others = (JobCheckpoint.checkpoint_id == Checkpoint.id) & (JobCheckpoint.job_id != job.id)
    begins_with = (
        child.kind == "train",
        child.status.in_(UNFINISHED),
        child.configuration["start"]["digest"].as_string() == Checkpoint.digest,
    )
    drawn_from = (GenerateJob.checkpoint_id == Checkpoint.id) & GenerateJob.result_digest.is_(None)
    session.execute(
        update(Checkpoint)
        .where(
            Checkpoint.id.in_(mine),
            Checkpoint.id.not_in(last),
            ~select(1).where(of_others).exists(),
            ~select(1).where(*begins_with).exists(),
            ~select(1).where(drawn_from).exists(),
            ~select(1).where(Job.best_checkpoint_id == Checkpoint.id).exists(),
            ~select(1).where(ModelAlias.checkpoint_id == Checkpoint.id).exists(),
        )
        .values(artifact_digest=None)
        .execution_options(synchronize_session=False)
    )
