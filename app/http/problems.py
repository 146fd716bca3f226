"""Errors as RFC 9457 problem details: every error of the service has this one form."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

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


def encoded(request: Request) -> Problem | None:
    """The refusal of a compressed body, which nothing here unpacks; None of a plain one."""
    if request.headers.get("content-encoding", "identity").strip().lower() == "identity":
        return None
    return Problem(415, "unsupported-media-type", "send the body as it is, without Content-Encoding")


def describe(app: FastAPI) -> None:
    """Add the schemas that `documented` refers to; FastAPI adds only those of JSON answers by itself.

    To be called when all routes are there: FastAPI keeps the document that it makes first.
    """
    problem = ProblemDetails.model_json_schema(ref_template=_COMPONENTS)
    components: dict[str, Any] = app.openapi().setdefault("components", {}).setdefault("schemas", {})
    components.update(problem.pop("$defs"))
    components["ProblemDetails"] = problem
