"""The caller of a request, and checks of the caller's rights and limits."""

from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from darkroom.app.access.caller import Caller
from darkroom.app.access.scopes import PROMOTION, sufficient
from darkroom.app.dependencies.services import Services
from darkroom.app.http.problems import Problem
from darkroom.app.settings import Settings
from darkroom.store.key_repository import TooManyJobs, require_room_for_jobs
from darkroom.store.storage_use import bytes_of_key
from darkroom.store.tables import Promotion


def caller_of(request: Request) -> Caller:
    """Return the caller that the gate admitted with this request."""
    return cast(Caller, request.state.caller)


def hold_stream(request: Request, services: Services) -> None:
    """Count an event stream of the caller until its request is answered. Raises Problem (429) above the limit."""
    request.state.until_answered.enter_context(services.streams.hold(caller_of(request)))


async def _caller(request: Request) -> Caller:
    return caller_of(request)


CallerHere = Annotated[Caller, Depends(_caller)]


def may_promote(caller: Caller) -> bool:
    """Return True when the caller may promote a version."""
    return caller.key is None or not caller.key.scopes.isdisjoint(sufficient(PROMOTION))


def require_promotion(services: Services, caller: Caller, promote: Promotion) -> None:
    """Raise Problem (403) if the job would promote a version at its end and the caller may not do that."""
    if promote == "never":
        return
    reason = f", which promote {promote!r} needs: the job moves an alias, like PUT /v1/models/NAME/alias/production"
    services.gate.require(caller, PROMOTION, reason)


def require_stored_bytes(session: Session, settings: Settings, caller: Caller, more: int = 0) -> None:
    """Raise Problem (403) when the caller's key stores its limit of bytes, or would with `more` bytes exceed it."""
    if caller.key is None:
        return
    own = caller.key.limits.stored_bytes
    most = settings.key_stored_bytes if own is None else own
    stored = bytes_of_key(session, caller.key.id)
    if stored + max(1, more) > most:
        detail = (
            f"the key {caller.key.name!r} stores {stored:,} bytes and may store {most:,}: delete data sets, models or "
        )
        raise Problem(403, "bytes-limit", f"{detail}jobs, or ask the operator for a higher limit")


def require_room(session: Session, services: Services, caller: Caller, more: int = 1) -> None:
    """Raise unless the caller's key may have `more` additional unfinished jobs, and store what they will make.

    Raises store.key_repository.TooManyJobs, and Problem (403).
    """
    if caller.key is None:
        return
    require_stored_bytes(session, services.settings, caller)
    try:
        require_room_for_jobs(session, caller.key.id, more, services.gate.unfinished_jobs(caller.key))
    except TooManyJobs:
        services.gate.count_refusal("jobs_limit")
        raise
