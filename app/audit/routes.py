"""GET /audit-events: who changed what."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from darkroom.app.dependencies.paging import BeforeId, Limit
from darkroom.app.dependencies.services import ServicesHere
from darkroom.app.http.problems import documented
from darkroom.store.audit_repository import list_audit_events

router = APIRouter(tags=["audit"])

Filter = Annotated[str | None, Query(max_length=300, pattern=r"^[^\x00]*$")]


class AuditEventAnswer(BaseModel):
    """One change."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: datetime
    actor: str = Field(
        description="a key's name, `loopback`, `command line`, `shipped weights`, or the train job that moved an alias"
    )
    api_key_id: int | None
    action: str = Field(description="such as key.created, train-job.submitted, alias.moved")
    target: str = Field(description="path below /v1 of the changed resource")
    data: dict[str, Any]
    request_id: str | None = Field(description="X-Request-ID of the request that made the change")
    client_address: str | None


class AuditEventsAnswer(BaseModel):
    """One page of the audit trail."""

    audit_events: list[AuditEventAnswer]
    next_before: int | None = Field(description="pass as `before` for the next page; null on the last")


@router.get("/audit-events", responses=documented(422, 500, 503))
def audit_events(
    services: ServicesHere,
    before: BeforeId = None,
    limit: Limit = 50,
    action: Filter = None,
    target: Filter = None,
) -> AuditEventsAnswer:
    """Changes, newest first. Each event is written in the same transaction as its change."""
    with services.transaction() as session:
        rows = list_audit_events(session, before=before, limit=limit + 1, action=action, target=target)
    page = rows[:limit]
    return AuditEventsAnswer(
        audit_events=[AuditEventAnswer.model_validate(row) for row in page],
        next_before=page[-1].id if len(rows) > limit else None,
    )
