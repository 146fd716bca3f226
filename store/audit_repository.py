"""The audit trail: who changed what. The transaction of a change also writes its event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from darkroom.store.tables import AuditEvent


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of a change. name: see `store.tables.AuditEvent.actor`. api_key_id: of the key, if the actor is one."""

    name: str
    api_key_id: int | None = None
    request_id: str | None = None
    client_address: str | None = None


COMMAND_LINE = Actor("command line")


def record(session: Session, actor: Actor, action: str, target: str, data: Mapping[str, Any] | None = None) -> None:
    """Add an event. action, target: see `store.tables.AuditEvent`. data: facts of the change, no secrets."""
    session.add(
        AuditEvent(
            actor=actor.name,
            api_key_id=actor.api_key_id,
            action=action,
            target=target,
            data=dict(data or {}),
            request_id=actor.request_id,
            client_address=actor.client_address,
        )
    )


def list_audit_events(
    session: Session,
    *,
    before: int | None = None,
    limit: int = 50,
    action: str | None = None,
    target: str | None = None,
) -> Sequence[AuditEvent]:
    """Up to `limit` events, newest first, with ids below `before`."""
    query = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    if action is not None:
        query = query.where(AuditEvent.action == action)
    if target is not None:
        query = query.where(AuditEvent.target == target)
    return session.scalars(query).all()
