"""/keys: creates, lists, changes and revokes API keys. A token is shown only once."""

from datetime import datetime
from typing import Annotated, Any

from anyio import from_thread
from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from darkroom.app.access.new_key import KeyLimitsRequest, KeyRequest, closing_notice, make_key
from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.paging import LARGEST_ID, BeforeId, Limit
from darkroom.app.dependencies.services import ServicesHere, require_json
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.problems import documented
from darkroom.store.key_repository import change_key, list_keys, revoke_key
from darkroom.store.tables import ApiKey, Scope

router = APIRouter(tags=["keys"])

KeyId = Annotated[int, DIGITS, Path(ge=1, le=LARGEST_ID)]


class KeyAnswer(BaseModel):
    """A key without its token."""

    model_config = ConfigDict(from_attributes=True, validate_by_name=True)

    id: int
    name: str
    prefix: str = Field(description="the beginning of the token")
    scopes: list[Scope]
    requests_per_minute: int | None = Field(description="null: the service's default")
    images_per_day: int | None
    network_rows_per_day: int | None
    unfinished_jobs: int | None
    stored_bytes: int | None
    priority: int | None
    devices: int | None
    group: str | None = Field(validation_alias="group_name", description="whose keys own things together")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="exact to the minute")


class NewKeyAnswer(KeyAnswer):
    """A new key with its token."""

    token: str = Field(description="send it as Authorization: Bearer TOKEN; it is shown only once")
    notice: str | None = Field(description="says so when this key has closed a service that was open; else null")


class KeysAnswer(BaseModel):
    """One page of keys."""

    keys: list[KeyAnswer]
    next_before: int | None = Field(description="pass as `before` for the next page; null on the last")


def _described(row: ApiKey) -> dict[str, Any]:
    return KeyAnswer.model_validate(row).model_dump()


@router.post(
    "/keys",
    status_code=201,
    dependencies=[Depends(require_json)],
    responses=documented(400, 413, 415, 422, 500, 503),
)
def create(body: KeyRequest, response: Response, services: ServicesHere, caller: CallerHere) -> NewKeyAnswer:
    """Create a key. As soon as one exists, every request needs a key, on loopback too.

    It stays so after the last key is revoked. `notice` says when this call has closed the service.

    There is no Idempotency-Key, because the token cannot be shown again. If the answer is lost, revoke the key and
    create another.
    """
    with services.transaction() as session:
        row, token = make_key(session, caller.actor, body)
        notice = None if caller.key else closing_notice(row.scopes)
        answer = NewKeyAnswer(**_described(row), token=token, notice=notice)
    from_thread.run_sync(services.gate.forget)
    response.headers["Cache-Control"] = "no-store"
    return answer


@router.get("/keys", responses=documented(422, 500, 503))
def keys(
    services: ServicesHere,
    before: BeforeId = None,
    limit: Limit = 50,
) -> KeysAnswer:
    """All keys, newest first, including revoked ones."""
    with services.transaction() as session:
        rows = list_keys(session, before, limit + 1)
    page = rows[:limit]
    return KeysAnswer(
        keys=[KeyAnswer.model_validate(row) for row in page],
        next_before=page[-1].id if len(rows) > limit else None,
    )


@router.patch(
    "/keys/{key_id}", dependencies=[Depends(require_json)], responses=documented(400, 404, 413, 415, 422, 500, 503)
)
def change(key_id: KeyId, body: KeyLimitsRequest, services: ServicesHere, caller: CallerHere) -> KeyAnswer:
    """Set the limits that the body names; null means the service's default. Other limits do not change.

    This process applies them at once, other processes after some seconds. The counts of the current windows stay.
    """
    with services.transaction() as session:
        answer = KeyAnswer.model_validate(change_key(session, caller.actor, key_id, body.changes()))
    from_thread.run_sync(services.gate.forget)
    return answer


@router.post("/keys/{key_id}/revoke", responses=documented(404, 422, 500, 503))
def revoke(key_id: KeyId, services: ServicesHere, caller: CallerHere) -> KeyAnswer:
    """Revoke a key for good. To revoke it again does no harm.

    This process refuses it at once, other processes after some seconds.
    """
    with services.transaction() as session:
        answer = KeyAnswer.model_validate(revoke_key(session, caller.actor, key_id))
    from_thread.run_sync(services.gate.forget)
    return answer
