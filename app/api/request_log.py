"""A line in the log for every answer, and for every error that nobody expected, which is answered here.

It stands inside of what names the request, so that these lines and an error's answer have its name.
"""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem
from app.api.route import route_of
from telemetry.log_fields import log_fields

PROBES = frozenset(("/healthz", "/readyz", "/metrics"))
"""Asked for every few seconds, for ever: their lines are of level DEBUG."""

log = logging.getLogger(__name__)


class RequestLog:
    """ASGI middleware. The path's template is logged and nothing else of the address: there may be a secret in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            with log_fields(**_job(scope)):
                log.exception("an unexpected error")
            if status is not None:  # too late for an answer: the server cuts it off
                raise
            problem = Problem(500, "internal", "an unexpected error; the service's log has its cause")
            await problem.response()(scope, receive, watched)
        finally:
            _tell(scope, status, time.perf_counter() - began)


def _tell(scope: Scope, status: int | None, seconds: float) -> None:
    method, route = scope["method"], route_of(scope)
    fields = {**_job(scope), "method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
    level = logging.DEBUG if route in PROBES else logging.INFO
    ended = "cut off" if status is None else status
    log.log(level, "%s %s %s", method, route, ended, extra={"fields": fields})


def _job(scope: Scope) -> dict[str, int]:
    """The job that the path names, as the lines of those who work on it have it."""
    named = str(scope.get("path_params", {}).get("job_id", ""))
    return {"job_id": int(named)} if named.isascii() and named.isdecimal() else {}
