"""Checkpoints' frontiers: what was measured of them by sampler and number of steps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from store.job_repository import add_event
from store.tables import Checkpoint, FrontierFigure, Job, JobCheckpoint


@dataclass(frozen=True, slots=True)
class FrontierLine:
    """A figure with everything that determines it, the sampler's settings included."""

    metric: str
    value: float
    protocol: Mapping[str, Any]
    protocol_digest: str


def record_frontier(session: Session, checkpoint_id: int, lines: Sequence[FrontierLine]) -> None:
    """Keep figures of a checkpoint; one of equal metric and protocol is replaced."""
    for line in lines:
        values = {"value": line.value, "protocol": dict(line.protocol)}
        key = {"checkpoint_id": checkpoint_id, "metric": line.metric, "protocol_digest": line.protocol_digest}
        session.execute(
            upsert(FrontierFigure).values(**key, **values).on_conflict_do_update(index_elements=list(key), set_=values)
        )


def record_job_frontier(session: Session, job: Job, images_seen: int, lines: Sequence[FrontierLine]) -> None:
    """Keep figures of the job's checkpoint at `images_seen`. job: as `store.job_repository.hold` gave it."""
    checkpoint_id = session.scalars(
        select(JobCheckpoint.checkpoint_id).where(
            JobCheckpoint.job_id == job.id, JobCheckpoint.images_seen == images_seen
        )
    ).one()
    record_frontier(session, checkpoint_id, lines)
    for line in lines:
        told = {name: line.protocol.get(name) for name in ("sampler", "steps")}
        add_event(
            session, job, "frontier", {"images_seen": images_seen, "metric": line.metric, "value": line.value, **told}
        )


def job_frontier(session: Session, job_id: int, images_seen: int) -> Sequence[FrontierLine]:
    """What was measured of the job's checkpoint at `images_seen`."""
    figures = session.scalars(
        select(FrontierFigure)
        .join(JobCheckpoint, JobCheckpoint.checkpoint_id == FrontierFigure.checkpoint_id)
        .where(JobCheckpoint.job_id == job_id, JobCheckpoint.images_seen == images_seen)
    )
    return [_line(figure) for figure in figures]


def frontier_lines(session: Session, digests: Collection[str]) -> Mapping[str, Sequence[FrontierLine]]:
    """By weights file's digest what was measured of it; no entry where nothing was."""
    rows = session.execute(
        select(Checkpoint.digest, FrontierFigure)
        .join(FrontierFigure, FrontierFigure.checkpoint_id == Checkpoint.id)
        .where(Checkpoint.digest.in_(list(digests)))
        .order_by(Checkpoint.id, FrontierFigure.protocol_digest)
    ).all()
    found: dict[str, list[FrontierLine]] = {}
    for digest, figure in rows:
        found.setdefault(digest, []).append(_line(figure))
    return found


def _line(figure: FrontierFigure) -> FrontierLine:
    return FrontierLine(figure.metric, figure.value, figure.protocol, figure.protocol_digest)
