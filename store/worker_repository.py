"""Workers that have been seen."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from store.clock import seconds
from store.tables import Worker

WORKER_DEVICES = ("cpu", "cuda")
FORGET_AFTER_SECONDS = 7 * 24 * 3600.0


def see_worker(session: Session, name: str, device: str, devices: int) -> None:
    """Note that a worker lives."""
    new = upsert(Worker).values(name=name, device=device, devices=devices)
    session.execute(
        new.on_conflict_do_update(
            index_elements=[Worker.name], set_={"device": device, "devices": devices, "seen_at": func.now()}
        )
    )


def workers_alive(session: Session, fresh_seconds: float) -> Sequence[Worker]:
    """Workers that were seen within `fresh_seconds`, by name; forgets those of long ago."""
    session.execute(delete(Worker).where(Worker.seen_at < func.now() - seconds(FORGET_AFTER_SECONDS)))
    return session.scalars(
        select(Worker).where(Worker.seen_at > func.now() - seconds(fresh_seconds)).order_by(Worker.name)
    ).all()


def devices_alive(session: Session, fresh_seconds: float) -> Mapping[str, int]:
    """The most devices of each kind that one living worker offers to a job."""
    most: dict[str, int] = {}
    for worker in workers_alive(session, fresh_seconds):
        most[worker.device] = max(most.get(worker.device, 0), worker.devices)
    return most
