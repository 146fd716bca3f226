"""Idempotency keys: a client that got no answer sends its request again with the same key, and creates nothing twice.

Within one transaction: `remember` the key, create the resource unless there is one, `settle` the key. A repetition at
the same time waits in `remember` for the first one's end. A key is valid for 24 hours. After that it counts as unused,
and `purge_idempotency_keys` deletes it.
"""

from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.tables import IdempotencyKey

DATASETS = "POST /datasets"
GENERATE_JOBS = "POST /generate-jobs"
SWEEPS = "POST /sweeps"
TRAIN_JOBS = "POST /train-jobs"
"""The scopes: methods and paths of the requests that create something."""

LIFETIME = timedelta(hours=24)
_UNSETTLED = 0
"""Placeholder for a resource's id, never visible outside the transaction that remembers the key."""


class IdempotencyKeyReused(ValueError):
    """The key was used for another request."""

    def __init__(self, key: str) -> None:
        given = key.rpartition(" ")[2]
        super().__init__(f"the idempotency key {given!r} was used for another request")
        self.key = key


def remember(session: Session, scope: str, key: str, request_digest: str) -> int | None:
    """The id of the resource that this request created before; None for a new request.

    A new key is locked until the transaction ends: the caller creates the resource and calls `settle`, or rolls back.
    scope: the request's method and path. key: the client's, after the id of its API key and a space.
    request_digest: of everything that decides what is created.
    Raises IdempotencyKeyReused.
    """
    expired = IdempotencyKey.created_at < func.now() - LIFETIME
    fresh = {"request_digest": request_digest, "resource_id": _UNSETTLED, "created_at": func.now()}
    taken = session.scalar(
        upsert(IdempotencyKey)
        .values(scope=scope, key=key, **fresh)
        .on_conflict_do_update(
            index_elements=[IdempotencyKey.scope, IdempotencyKey.key],
            set_=fresh,
            where=expired,
        )
        .returning(IdempotencyKey.key)
    )
    if taken is not None:
        return None
    known = session.scalars(
        select(IdempotencyKey).where(IdempotencyKey.scope == scope, IdempotencyKey.key == key)
    ).one()
    if known.request_digest != request_digest:
        raise IdempotencyKeyReused(key)
    return known.resource_id


def settle(session: Session, scope: str, key: str, resource_id: int) -> None:
    """Store what the request created, in the transaction that remembered the key."""
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.scope == scope, IdempotencyKey.key == key)
        .values(resource_id=resource_id)
    )


def forget(session: Session, scope: str, resource_id: int) -> None:
    """Make the keys that created a resource unused, because it is deleted."""
    session.execute(
        delete(IdempotencyKey).where(IdempotencyKey.scope == scope, IdempotencyKey.resource_id == resource_id)
    )


def purge_idempotency_keys(session: Session) -> int:
    """Delete keys older than 24 hours; returns how many."""
    return len(
        session.scalars(
            delete(IdempotencyKey)
            .where(IdempotencyKey.created_at < func.now() - LIFETIME)
            .returning(IdempotencyKey.key)
        ).all()
    )
