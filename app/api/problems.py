"""Errors as RFC 9457 problem details: every error of the service has this one form."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
STORE_RETRY_SECONDS = 5
_COMPONENTS = "#/components/schemas/{model}"


class FieldError(BaseModel):
    """One faulty field."""

    pointer: str = Field(description="JSON pointer into the body, or the parameter's name")
    detail: str


class ProblemDetails(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="a stable identifier of the kind of problem")
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(None, description="the faulty fields, where there are any")


class Problem(Exception):
    """An error with its HTTP answer.

    kind: the last part of the problem's type; extra: further members of the details.
    """

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def details(self) -> dict[str, Any]:
        """The members of the answer."""
        title = HTTPStatus(self.status).phrase
        return {"type": f"urn:darkroom:{self.kind}", "title": title, "status": self.status, "detail": self.detail} | {
            name: value for name, value in self.extra.items() if value is not None
        }

    def response(self) -> Response:
        """The HTTP answer. ASCII, because a name in a request may hold what UTF-8 cannot."""
        content = json.dumps(self.details(), ensure_ascii=True, allow_nan=False).encode()
        return Response(content, self.status, self.headers, MEDIA_TYPE)


def retry_after(seconds: float) -> dict[str, str]:
    """The Retry-After header, in whole seconds, at least 1."""
    return {"Retry-After": str(max(1, int(-(-seconds // 1))))}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for OpenAPI."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": _COMPONENTS.format(model="ProblemDetails")}}},
        }
        for status in statuses
    }


def invalid(errors: list[tuple[str, str]]) -> Problem:
    """422 for a body whose named fields are at fault. errors: (pointer, detail)."""
    detail = "; ".join(f"{pointer}: {text}" for pointer, text in errors[:5])
    return Problem(
        422, "invalid", detail, errors=[{"pointer": pointer, "detail": text} for pointer, text in errors[:50]]
    )


def _pointer(path: Sequence[str | int], body: Any) -> str:
    """JSON pointer (RFC 6901) to a fault. The path also names branches of unions, which are not in the body."""
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
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


def _from_validation(error: RequestValidationError) -> Problem:
    errors = []
    for fault in error.errors():
        where, *path = fault["loc"]
        if fault["type"] == "json_invalid":
            return Problem(400, "not-json", f"the body is not JSON: {fault['ctx']['error']}")
        pointer = _pointer(path, error.body) if where == "body" else str(path[0] if path else where)
        errors.append((pointer, str(fault["msg"])))
    return invalid(errors)


def encoded(request: Request) -> Problem | None:
    """The refusal of a compressed body, which nothing here unpacks; None of a plain one."""
    if request.headers.get("content-encoding", "identity").strip().lower() == "identity":
        return None
    return Problem(415, "unsupported-media-type", "send the body as it is, without Content-Encoding")


def _from_http(request: Request, error: HTTPException) -> Problem:
    if error.status_code == 400 and error.__cause__ is not None:  # FastAPI could not parse the body
        reasons = "it is not UTF-8, is nested too deeply or has a number of too many digits"
        return encoded(request) or Problem(400, "not-json", f"the body is not JSON that can be read: {reasons}")
    kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return Problem(error.status_code, kind, str(error.detail), headers=error.headers)


def describe(app: FastAPI) -> None:
    """Add the schemas that `documented` refers to; FastAPI adds only those of JSON answers by itself.

    To be called when all routes are there: FastAPI keeps the document that it makes first.
    """
    problem = ProblemDetails.model_json_schema(ref_template=_COMPONENTS)
    components: dict[str, Any] = app.openapi().setdefault("components", {}).setdefault("schemas", {})
    components.update(problem.pop("$defs"))
    components["ProblemDetails"] = problem


def install(app: FastAPI) -> None:
    """Answer errors of `app` with problem details; one that nobody expected is `app.api.request`'s."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        return _from_validation(error).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return _from_http(request, error).response()

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)
    async def store_away(request: Request, error: SQLAlchemyError) -> Response:
        log.warning("the database is away: %s", error)
        return Problem(
            503, "store-unavailable", "the database cannot be reached", headers=retry_after(STORE_RETRY_SECONDS)
        ).response()
