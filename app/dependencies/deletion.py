"""Deletions, which can first be tried, and marks that prevent them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from sqlalchemy.orm import Session

from darkroom.app.dependencies.services import Services
from darkroom.app.http.problems import documented
from darkroom.store.deletion import Dependent, InUse

DryRun = Annotated[bool, Query(description="delete nothing, and answer 200 with what hangs on it")]


class KeepRequest(BaseModel):
    """A mark: while it is set, neither retention nor a deletion removes the thing."""

    model_config = ConfigDict(extra="forbid")

    keep: StrictBool


class DependentAnswer(BaseModel):
    """A thing that hangs on what is to be deleted."""

    resource: str = Field(description="its address")
    reason: str
    blocks: bool = Field(description="prevents the deletion, even with `force`")


class DryRunAnswer(BaseModel):
    """What a deletion would meet. Without dependents it needs no `force`."""

    blocked: bool = Field(description="something prevents the deletion")
    dependents: list[DependentAnswer]


def dependent_answer(one: Dependent) -> DependentAnswer:
    """Return the answer about a dependent."""
    return DependentAnswer(resource=f"/v1/{one.resource}", reason=one.reason, blocks=one.blocks)


def deletion_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that deletes."""
    dry_run: dict[str, Any] = {"model": DryRunAnswer, "description": "With `dry_run`: nothing was deleted"}
    return {200: dry_run, **documented(404, 409, 422, 500, 503, *statuses)}


def delete(services: Services, dry_run: bool, work: Callable[[Session], object]) -> Response:
    """Delete in one transaction; with `dry_run` undo it, and answer what it has met. Raises InUse.

    work: deletes; raises InUse.
    """
    dependents: list[DependentAnswer] = []
    try:
        with services.transaction() as session:
            work(session)
            if dry_run:
                session.rollback()
    except InUse as error:
        if not dry_run:
            raise
        dependents = [dependent_answer(one) for one in error.dependents]
    if not dry_run:
        return Response(status_code=204)
    answer = DryRunAnswer(blocked=any(one.blocks for one in dependents), dependents=dependents)
    return JSONResponse(answer.model_dump())
