"""Sweeps: grids of train jobs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from darkroom.store.job_repository import UNFINISHED, JobConflict, request_cancel
from darkroom.store.owners import Owner, owned, require_owned
from darkroom.store.tables import Job, JobStatus, Sweep


class SweepNotFound(LookupError):
    """There is no such sweep."""

    def __init__(self, sweep_id: int) -> None:
        super().__init__(f"there is no sweep {sweep_id}")


def create_sweep(
    session: Session,
    name: str,
    configuration: Mapping[str, Any],
    fields: Sequence[str],
    api_key_id: int | None = None,
) -> Sweep:
    """Add a sweep, which belongs to the key. The same transaction then submits its jobs."""
    sweep = Sweep(name=name, configuration=dict(configuration), fields=list(fields), api_key_id=api_key_id)
    session.add(sweep)
    session.flush()
    session.refresh(sweep)
    return sweep


def get_sweep(session: Session, sweep_id: int, owner: Owner | None = None) -> Sweep:
    """One sweep. owner: who asks; None for somebody who may use all. Raises SweepNotFound and OwnedByAnother."""
    sweep = session.get(Sweep, sweep_id)
    if sweep is None:
        raise SweepNotFound(sweep_id)
    require_owned(session, sweep, owner)
    return sweep


def list_sweeps(
    session: Session, before: int | None = None, limit: int = 50, owner: Owner | None = None
) -> Sequence[Sweep]:
    """Up to `limit` sweeps, newest first, with ids below `before`. owner: lists only sweeps that it may use."""
    query = select(Sweep).order_by(Sweep.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Sweep.id < before)
    if owner is not None:
        query = query.where(owned(Sweep.api_key_id, owner))
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


def cancel_sweep(session: Session, sweep_id: int, owner: Owner | None = None) -> Sweep:
    """Cancel its unfinished jobs. Raises JobConflict when there are none. owner, errors: as for `get_sweep`."""
    sweep = get_sweep(session, sweep_id, owner)
    # Lock all jobs before any counter. A worker locks its job first, too, so the two cannot deadlock.
    unfinished = session.scalars(
        select(Job.id).where(Job.sweep_id == sweep_id, Job.status.in_(UNFINISHED)).order_by(Job.id).with_for_update()
    ).all()
    if not unfinished:
        raise JobConflict(f"sweep {sweep_id} has ended; there is nothing to cancel")
    for job_id in unfinished:
        request_cancel(session, job_id)
    return sweep
