"""The one table of exceptions and their HTTP answers. Routes let exceptions pass; they become problems here."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from darkroom.app.access.too_many_requests import jobs_limit, queue_full, queue_long, versions_busy
from darkroom.app.dependencies.deletion import dependent_answer
from darkroom.app.engine.request import (
    DeadlineUnmeetable,
    EngineStopped,
    QueueFull,
    QueueLong,
    TooManyRows,
    VersionsBusy,
)
from darkroom.app.http.problems import (
    HTTP_KINDS,
    STORE_RETRY_SECONDS,
    Problem,
    invalid,
    pointer_part,
    retry_after,
)
from darkroom.app.versions.version import UnknownModel
from darkroom.model.checkpoint import CheckpointError
from darkroom.model.user_error import fault_text
from darkroom.model.words import several
from darkroom.store.artifacts import ArtifactCorrupted, ArtifactMissing
from darkroom.store.database import DatabaseAway, DatabaseBusy, DatabaseFull
from darkroom.store.dataset_repository import DatasetConflict, DatasetNotFound
from darkroom.store.deletion import InUse
from darkroom.store.generate_repository import GenerateJobNotFound
from darkroom.store.idempotency import IdempotencyKeyReused
from darkroom.store.job_repository import JobConflict, JobNotFound
from darkroom.store.key_repository import KeyNotFound, TooManyJobs
from darkroom.store.model_repository import ModelNotFound, VersionCollected, VersionNotFound
from darkroom.store.owners import OwnedByAnother
from darkroom.store.places import ArtifactsAway, ArtifactsFull
from darkroom.store.sweep_repository import SweepNotFound

log = logging.getLogger(__name__)


def _answer(
    status: int, kind: str, detail: Callable[[Any], str] = str, *, retry_seconds: float | None = None
) -> Callable[[Any], Problem]:
    """Return an entry of the table. detail: makes the problem's detail; default: the exception's message."""
    headers = None if retry_seconds is None else retry_after(retry_seconds)
    return lambda error: Problem(status, kind, detail(error), headers=headers)


def _database_away(detail: str) -> Callable[[DatabaseAway], Problem]:
    def answer(error: DatabaseAway) -> Problem:
        log.warning("%s: %s", detail, error)
        return Problem(503, "store-unavailable", detail, headers=retry_after(STORE_RETRY_SECONDS))

    return answer


def _dataset_exists(error: DatasetConflict) -> Problem:
    return Problem(409, "dataset-exists", str(error), existing=f"/v1/datasets/{quote(error.name, safe='')}")


def _in_use(error: InUse) -> Problem:
    dependents = [dependent_answer(one).model_dump() for one in error.dependents]
    return Problem(409, "in-use", str(error), dependents=dependents)


def _deadline_unmeetable(late: DeadlineUnmeetable) -> Problem:
    seconds = late.deadline_seconds
    detail = (
        f"this request would take about {late.expected_seconds:.2f} s, which is more than its deadline of {seconds:g} s"
    )
    headers = None if late.retry_after_seconds is None else retry_after(late.retry_after_seconds)
    expected = round(late.expected_seconds, 3)
    return Problem(503, "deadline-unmeetable", detail, headers=headers, expected_seconds=expected)


def _too_many_rows(many: TooManyRows) -> Problem:
    places = f"{several(many.rows, 'image')} are more than the queue has places, {many.limit}"
    return invalid([("", f"{places}: ask for fewer, or submit a generate job")])


def _pointer(path: Sequence[str | int], body: Any) -> str:
    """Return the JSON pointer (RFC 6901) to a fault.

    path: from pydantic. It also names branches of unions, which are not in the body and so not in the pointer.
    """
    pointer, here = "", body
    for number, part in enumerate(path):
        if isinstance(here, Mapping):
            if part not in here and number:
                continue
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        pointer += "/" + pointer_part(str(part))
    return pointer


def _invalid_request(error: RequestValidationError) -> Problem:
    errors = []
    for fault in error.errors():
        where, *path = fault["loc"]
        if fault["type"] == "json_invalid":
            return Problem(400, "not-json", f"the body is not JSON: {fault['ctx']['error']}")
        pointer = _pointer(path, error.body) if where == "body" else str(path[0] if path else where)
        errors.append((pointer, fault_text(fault)))
    return invalid(errors)


ANSWERS: Mapping[type[Exception], Callable[[Any], Problem]] = {
    Problem: lambda problem: problem,
    RequestValidationError: _invalid_request,
    # The address names a thing that does not exist. (For a thing that the body names, see `at`.)
    JobNotFound: _answer(404, "no-such-job"),
    GenerateJobNotFound: _answer(404, "no-such-generate-job"),
    SweepNotFound: _answer(404, "no-such-sweep"),
    DatasetNotFound: _answer(404, "no-such-dataset"),
    ModelNotFound: _answer(404, "no-such-model"),
    VersionNotFound: _answer(404, "no-such-version"),
    KeyNotFound: _answer(404, "no-such-key"),
    OwnedByAnother: _answer(403, "owned-by-another"),
    UnknownModel: lambda error: invalid([("/model", str(error))]),
    # A thing exists but cannot be used.
    VersionCollected: _answer(410, "version-collected"),
    CheckpointError: _answer(503, "version-unusable"),
    ArtifactMissing: _answer(500, "artifact-unusable", "{}; make the thing that it belongs to again".format),
    ArtifactCorrupted: _answer(500, "artifact-unusable", "{}; make the thing that it belongs to again".format),
    # Nobody receives this answer: it is for the log and the Prometheus metrics.
    ClientDisconnect: lambda _: Problem(400, "client-closed-request", "the client closed the connection"),
    # The request conflicts with the present state.
    JobConflict: _answer(409, "job-conflict"),
    DatasetConflict: _dataset_exists,
    InUse: _in_use,
    IdempotencyKeyReused: _answer(422, "idempotency-key-reused"),
    TooManyJobs: jobs_limit,
    # The engine refuses.
    QueueFull: queue_full,
    QueueLong: queue_long,
    VersionsBusy: versions_busy,
    TooManyRows: _too_many_rows,
    DeadlineUnmeetable: _deadline_unmeetable,
    EngineStopped: _answer(503, "unavailable", lambda _: "the service is restarting; try again", retry_seconds=5.0),
    DatabaseAway: _database_away("the database cannot be used now; try again"),
    DatabaseBusy: _database_away("the database took too long; try again"),
    ArtifactsAway: _database_away("the storage of weights and data sets cannot be used now; try again"),
    ArtifactsFull: _database_away(
        "the disk of weights and data sets is full; ask the operator for more space, then try again"
    ),
    DatabaseFull: _database_away("the database's disk is full; ask the operator for more space, then try again"),
}
"""A derived exception without an entry gets the answer of its base class. An exception that has neither is a fault of
the service: `app.middleware.request_watch` logs it and answers 500."""


def problem_of(error: Exception) -> Problem:
    """Return the problem that answers an exception of the table."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)(error)


@contextmanager
def at(pointer: str, *named: type[Exception]) -> Iterator[None]:
    """Turn the block's exceptions of the `named` types into problems whose `errors` point at a field of the body.

    pointer: JSON pointer of the field that names the thing. A thing that does not exist is then a fault of the field
    (422, not 404), because the address is right.
    """
    try:
        yield
    except named as error:
        problem = problem_of(error)
        if problem.status == HTTPStatus.NOT_FOUND:
            raise invalid([(pointer, problem.detail)]) from error
        errors = [{"pointer": pointer, "detail": problem.detail}]
        raise Problem(problem.status, problem.kind, problem.detail, errors=errors) from error


def _http(request: Request, error: HTTPException) -> Problem:
    if error.status_code == 400 and error.__cause__ is not None:  # FastAPI could not parse the body
        reasons = "it is not UTF-8, is nested too deeply or has a number with too many digits"
        detail = f"the body is not JSON that the service can read: {reasons}"
        return Problem(400, "not-json", detail)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return Problem(error.status_code, HTTP_KINDS[error.status_code], str(error.detail), headers=headers)


def _methods(request: Request) -> list[str]:
    """Return the methods that the request's path takes. The framework names only those of one route of the path."""
    routes = request.app.routes
    taken = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return [*taken, "HEAD"] if "GET" in taken else taken  # `app.middleware.head_as_get` answers HEAD


def install(app: FastAPI) -> None:
    """Make the application answer exceptions with problems: those of the table, and the framework's own."""

    async def answered(request: Request, error: Exception) -> Response:
        problem = _http(request, error) if isinstance(error, HTTPException) else problem_of(error)
        return problem.response()

    for kind in (*ANSWERS, HTTPException):
        app.add_exception_handler(kind, answered)
