"""What the service tells of every request: its name, its line in the log, its place in the metrics, its failure.

It stands inside of the security headers, so that the answer to an error that nobody expected has them too.
"""

import logging
import re
import time
import uuid

from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.app.http.problems import Problem
from darkroom.app.monitoring.prometheus import PrometheusMetrics
from darkroom.telemetry.log_fields import log_fields

HEADER = "X-Request-ID"
_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")

PREFIX = "/v1"
UNMATCHED = "unmatched"

PROBES = frozenset(("/healthz", "/readyz", "/metrics"))
"""Asked for every few seconds, for ever: their lines are of level DEBUG."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""The client chooses the method, and must not choose how many series there are."""

log = logging.getLogger(__name__)


class RequestWatch:
    """ASGI middleware. It takes the client's X-Request-ID where that has a plain form, and else makes one."""

    def __init__(self, app: ASGIApp, metrics: PrometheusMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _FORM.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        trace.get_current_span().set_attribute("darkroom.request_id", request_id)
        began = time.perf_counter()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        self._metrics.requests_in_flight.inc()
        with log_fields(request_id=request_id):
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
                self._metrics.requests_in_flight.dec()
                self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Write the line and count the answer. status: None of a request that got no answer, which counts as 500."""
        method, route = scope["method"], route_of(scope)
        fields = {**_job(scope), "method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        level = logging.DEBUG if route in PROBES else logging.INFO
        ended = "cut off" if status is None else status
        log.log(level, "%s %s %s", method, route, ended, extra={"fields": fields})
        counted = method if method in _METHODS and route != UNMATCHED else "other"
        self._metrics.requests.labels(route, counted, status or 500).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)


def route_of(scope: Scope) -> str:
    """The template of the path that was asked for; "unmatched" where there is none.

    Logs and metrics have nothing else of the address: templates are few, and an address may hold a secret.
    """
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return UNMATCHED
    asked = scope["path"].removeprefix(scope.get("root_path", ""))
    # a route is one object at both of its addresses and does not know the prefix
    return f"{PREFIX}{template}" if asked.startswith(f"{PREFIX}/") else str(template)


def _job(scope: Scope) -> dict[str, int]:
    """The job that the path names, as the lines of those who work on it have it."""
    named = str(scope.get("path_params", {}).get("job_id", ""))
    return {"job_id": int(named)} if named.isascii() and named.isdecimal() else {}
