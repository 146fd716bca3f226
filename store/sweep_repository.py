"""Sweeps: grids of train jobs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from darkroom.store.job_repository import UNFINISHED, JobConflict, request_cancel
from darkroom.store.tables import Job, JobStatus, Sweep


class SweepNotFound(LookupError):
    """There is no such sweep."""

    def __init__(self, sweep_id: int) -> None:
        super().__init__(f"there is no sweep {sweep_id}")


def create_sweep(session: Session, name: str, configuration: Mapping[str, Any], fields: Sequence[str]) -> Sweep:
    """Add a sweep. The same transaction then submits its jobs."""
    sweep = Sweep(name=name, configuration=dict(configuration), fields=list(fields))
    session.add(sweep)
    session.flush()
    session.refresh(sweep)
    return sweep


def get_sweep(session: Session, sweep_id: int) -> Sweep:
    """One sweep; raises SweepNotFound."""
    sweep = session.get(Sweep, sweep_id)
    if sweep is None:
        raise SweepNotFound(sweep_id)
    return sweep


def list_sweeps(session: Session, before: int | None = None, limit: int = 50) -> Sequence[Sweep]:
    """Up to `limit` sweeps, newest first, with ids below `before`."""
    query = select(Sweep).order_by(Sweep.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Sweep.id < before)
    return session.scalars(query).all()


def sweep_jobs(session: Session, sweep_id: int) -> Sequence[Job]:
    """A sweep's jobs in the order of the grid."""
    return session.scalars(select(Job).where(Job.sweep_id == sweep_id).order_by(Job.id)).all()


def count_jobs(session: Session, sweep_ids: Iterable[int]) -> Mapping[int, Mapping[JobStatus, int]]:
    """Counts of the jobs of each sweep, by status."""
    counts: dict[int, dict[JobStatus, int]] = {sweep_id: {} for sweep_id in sweep_ids}
    rows = session.execute(
        select(Job.sweep_id, Job.status, func.count())
        .where(Job.sweep_id.in_(list(counts)))
        .group_by(Job.sweep_id, Job.status)
    ).all()
    for sweep_id, status, jobs in rows:
        assert sweep_id is not None  # every one of them belongs to a sweep of the list
        counts[sweep_id][status] = jobs
    return counts


def cancel_sweep(session: Session, sweep_id: int) -> Sweep:
    """Cancel its unfinished jobs. Raises SweepNotFound, or JobConflict when there are none."""
    sweep = get_sweep(session, sweep_id)
    # Lock all jobs before any counter. A worker locks its job first, too, so the two cannot deadlock.
    unfinished = session.scalars(
        select(Job.id).where(Job.sweep_id == sweep_id, Job.status.in_(UNFINISHED)).order_by(Job.id).with_for_update()
    ).all()
    if not unfinished:
        raise JobConflict(f"sweep {sweep_id} has ended; there is nothing to cancel")
    for job_id in unfinished:
        request_cancel(session, job_id)
    return sweep
