"""Workers and their devices, as their beats report them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.clock import seconds
from darkroom.store.tables import Job, Worker

WORKER_DEVICES = ("cpu", "cuda")
FORGET_AFTER_SECONDS = 7 * 24 * 3600.0
FRESH_SECONDS = 60.0
"""A worker counts as alive for this long after a beat: several of its beats (10 s by default)."""


def see_worker(
    session: Session,
    name: str,
    device: str,
    devices: int,
    device_fault: str | None = None,
    rates: list[dict[str, Any]] | None = None,
    lacks: Mapping[str, str] | None = None,
) -> None:
    """Record a beat. device_fault: the fault of the worker's device, with which it claims nothing.

    rates: the worker's speed; None keeps what was measured before. lacks: see `Worker`.
    """
    now = func.now()
    seen: dict[str, Any] = {"device": device, "devices": devices, "seen_at": now, "device_fault": device_fault}
    seen["lacks"] = None if lacks is None else dict(lacks)
    if rates is not None:
        seen["rates"] = rates
    if device_fault is None:
        seen["device_good_at"] = now
    new = upsert(Worker).values(name=name, **seen)
    session.execute(new.on_conflict_do_update(index_elements=[Worker.name], set_=seen))


def workers_alive(session: Session, fresh_seconds: float) -> Sequence[Worker]:
    """Workers with a beat within `fresh_seconds`, by name. Deletes those of long ago."""
    session.execute(delete(Worker).where(Worker.seen_at < func.now() - seconds(FORGET_AFTER_SECONDS)))
    return session.scalars(
        select(Worker).where(Worker.seen_at > func.now() - seconds(fresh_seconds)).order_by(Worker.name)
    ).all()


def known_workers(session: Session, device: str) -> Sequence[Worker]:
    """Workers of the last days that can do a job for this device (`auto`: any), the one seen last first."""
    query = select(Worker).order_by(Worker.seen_at.desc())
    return session.scalars(query if device == "auto" else query.where(Worker.device == device)).all()


def is_alive(worker: Worker) -> bool:
    """Return True when the worker's last beat is fresh."""
    return worker.age_seconds < FRESH_SECONDS


def most_devices(session: Session, good_seconds: float) -> dict[str, int]:
    """By kind, the most working devices that one worker offered to a job within `good_seconds`."""
    rows = session.execute(
        select(Worker.device, func.max(Worker.devices))
        .where(Worker.device_good_at > func.now() - seconds(good_seconds))
        .group_by(Worker.device)
    )
    return dict(rows.all())


def count_idle_workers(session: Session, fresh_seconds: float) -> int:
    """Living workers that could take a job now: their device works and they hold no claim."""
    # the name of a claimant is WORKER:PROCESS
    holds_a_claim = exists().where(
        Job.lease_expires_at.is_not(None), func.regexp_replace(Job.worker, ":[^:]*$", "") == Worker.name
    )
    query = select(func.count()).where(
        Worker.seen_at > func.now() - seconds(fresh_seconds), Worker.device_fault.is_(None), ~holds_a_claim
    )
    return session.scalar(query) or 0
