"""The Idempotency-Key header of requests that create something (`store/idempotency.py`)."""

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from darkroom.app.dependencies.callers import caller_of
from darkroom.model.digest import digest_of
from darkroom.store import idempotency


async def _of_caller(
    request: Request,
    given: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=r"^[\x21-\x7e]{1,200}$",
            description="a request with the same key within 24 hours creates nothing and gets the first request's "
            "result; each API key has idempotency keys of its own",
        ),
    ] = None,
) -> str | None:
    """Return the header with the caller's API key before it. A space separates them, because no header has one."""
    owner = caller_of(request).key_id
    return given if given is None or owner is None else f"{owner} {given}"


IdempotencyKey = Annotated[str | None, Depends(_of_caller)]


def created_before(session: Session, scope: str, key: str | None, body: BaseModel) -> int | None:
    """Return the id of the resource that an earlier request with this key created; None if there was none.

    After None, create the resource and call `note_created`. Raises store.idempotency.IdempotencyKeyReused.
    """
    request_digest = digest_of(body.model_dump_json().encode())
    return None if key is None else idempotency.remember(session, scope, key, request_digest)


def note_created(session: Session, scope: str, key: str | None, created: int) -> None:
    """Store the id of the resource that the key's request created, in the same transaction."""
    if key is not None:
        idempotency.settle(session, scope, key, created)
