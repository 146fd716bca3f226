"""Errors as RFC 9457 problem details, the one form of all errors of the service."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import Response

from darkroom.app.http.problem_types import problem_type

MEDIA_TYPE = "application/problem+json"
STORE_RETRY_SECONDS = 5
NOT_READY = {"X-Darkroom-Replica": "not-ready"}
"""Header of a refusal by a replica that takes no requests now. Nothing was done, so the proxy asks another replica
(`deploy/caddy/Caddyfile`)."""
_COMPONENTS = "#/components/schemas/{model}"


class FieldError(BaseModel):
    """One faulty field."""

    pointer: str = Field(description="JSON pointer into the body, or the name of a parameter")
    detail: str


class ProblemDetails(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="the kind of problem: the address of its section in /docs/errors")
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(None, description="the faulty fields, if any")


class Problem(Exception):
    """An error with its HTTP answer.

    kind: the last part of the problem's type, which `problem_types.TYPES` explains. extra: further members of the
    details.
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
        """Return the members of the problem details."""
        title = HTTPStatus(self.status).phrase
        return {"type": problem_type(self.kind), "title": title, "status": self.status, "detail": self.detail} | {
            name: value for name, value in self.extra.items() if value is not None
        }

    def body(self) -> bytes:
        """Return the details as JSON. It is ASCII, because it may repeat a name that UTF-8 cannot encode."""
        return json.dumps(self.details(), ensure_ascii=True, allow_nan=False).encode()

    def response(self) -> Response:
        """Return the HTTP answer."""
        return Response(self.body(), self.status, self.headers, MEDIA_TYPE)


HTTP_KINDS: Mapping[int, str] = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    414: "uri-too-long",
    431: "request-header-fields-too-large",
    501: "not-implemented",
}
"""The kinds of problems of HTTP itself, by status. Python's names of statuses differ between its versions."""


def retry_after(seconds: float) -> dict[str, str]:
    """Return the Retry-After header, in whole seconds, at least 1."""
    return {"Retry-After": str(max(1, int(-(-seconds // 1))))}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route for these statuses."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": _COMPONENTS.format(model="ProblemDetails")}}},
        }
        for status in statuses
    }


def invalid(errors: list[tuple[str, str]]) -> Problem:
    """Return a 422 problem that names the faulty fields of a body. errors: (pointer, detail)."""
    detail = "; ".join(f"{pointer or 'the body'}: {text}" for pointer, text in errors[:5])
    return Problem(
        422, "invalid", detail, errors=[{"pointer": pointer, "detail": text} for pointer, text in errors[:50]]
    )


def pointer_part(name: str) -> str:
    """A member's name as one part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def describe(app: FastAPI) -> None:
    """Add the schemas that `documented` refers to. FastAPI itself adds only those of JSON answers.

    Call this after adding all routes, because FastAPI keeps the first document that it makes.
    """
    problem = ProblemDetails.model_json_schema(ref_template=_COMPONENTS)
    components: dict[str, Any] = app.openapi().setdefault("components", {}).setdefault("schemas", {})
    components.update(problem.pop("$defs"))
    components["ProblemDetails"] = problem
