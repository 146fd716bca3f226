"""A name for every request, in the answer and in what is written about it."""

import re
import uuid

from opentelemetry import trace
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.answer_headers import with_headers
from telemetry.log_fields import log_fields

HEADER = "X-Request-ID"
_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """ASGI middleware: takes the client's X-Request-ID where it has a plain form, else makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _FORM.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        trace.get_current_span().set_attribute("darkroom.request_id", request_id)
        with log_fields(request_id=request_id):
            await self._app(scope, receive, with_headers(send, lambda headers: headers.update({HEADER: request_id})))
