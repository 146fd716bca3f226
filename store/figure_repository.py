"""Records and finds figures of checkpoints. Nothing else writes the table `evaluations`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import InstrumentedAttribute, Session

from darkroom.model.figure import Figure
from darkroom.store.tables import Checkpoint, Evaluation, JobCheckpoint, Purpose

Key = TypeVar("Key", int, str)


def record_figures(session: Session, checkpoint_id: int, purpose: Purpose, figures: Iterable[Figure]) -> None:
    """Store figures of a checkpoint. A figure replaces one of equal purpose, metric and protocol."""
    for figure in figures:
        values = {"value": figure.value, "protocol": dict(figure.protocol), "seconds": figure.seconds}
        key = {
            "checkpoint_id": checkpoint_id,
            "purpose": purpose,
            "metric": figure.metric,
            "protocol_digest": figure.protocol_digest,
        }
        session.execute(
            upsert(Evaluation).values(**key, **values).on_conflict_do_update(index_elements=list(key), set_=values)
        )


def figures_by(
    session: Session, purpose: Purpose, column: InstrumentedAttribute[Key], keys: Collection[Key]
) -> Mapping[Key, Sequence[Figure]]:
    """The figures of the checkpoints whose `column` is one of `keys`, by key; without an entry where there are none."""
    rows = session.execute(
        select(column, Evaluation.figure)
        .join(Evaluation, Evaluation.checkpoint_id == Checkpoint.id)
        .where(column.in_(list(keys)), Evaluation.purpose == purpose)
        .order_by(Checkpoint.id, Evaluation.metric, Evaluation.protocol_digest)
    ).all()
    found: dict[Key, list[Figure]] = {}
    for key, figure in rows:
        found.setdefault(key, []).append(figure)
    return found


def saved_with(purpose: Purpose) -> ColumnElement[bool]:
    """Joins a job's checkpoints with their figures of that purpose."""
    return and_(Evaluation.checkpoint_id == JobCheckpoint.checkpoint_id, Evaluation.purpose == purpose)


def job_figures(
    session: Session, purpose: Purpose, job_id: int, *, at: int | None = None
) -> Sequence[tuple[int, int, Evaluation]]:
    """(images seen, version, figure) of a job's checkpoints in the order of images seen. at: only so many images."""
    query = (
        select(JobCheckpoint.images_seen, Checkpoint.version, Evaluation)
        .join(Checkpoint, Checkpoint.id == JobCheckpoint.checkpoint_id)
        .join(Evaluation, saved_with(purpose))
        .where(JobCheckpoint.job_id == job_id)
        .order_by(JobCheckpoint.images_seen, Evaluation.metric)
    )
    if at is not None:
        query = query.where(JobCheckpoint.images_seen == at)
    return session.execute(query).all()
