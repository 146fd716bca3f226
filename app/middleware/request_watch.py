"""Watches every request: gives it an id, writes its log line, counts it, and answers 500 to an unexpected error.

It runs inside `SecurityHeaders`, so that the answer to an unexpected error has these headers too.
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
"""Monitoring calls these every few seconds, so their log lines have the level DEBUG."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""A client can send any method. Others than these share one time series, so that no client adds series."""

log = logging.getLogger(__name__)


class RequestWatch:
    """ASGI middleware. It keeps the client's X-Request-ID if it has a plain form, and otherwise makes one."""

    def __init__(self, app: ASGIApp, metrics: PrometheusMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
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
                if status is not None:  # the answer has begun, so the server must cut it off
                    raise
                problem = Problem(500, "internal", "an unexpected error; the operator finds its cause in the log")
                await problem.response()(scope, receive, watched)
            finally:
                self._metrics.requests_in_flight.dec()
                self._report(scope, status, time.perf_counter() - began)

    def _report(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Write the log line and count the answer. status: None for a request without answer, counted as 500."""
        method, route = scope["method"], route_of(scope)
        fields = {**_job(scope), "method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        level = logging.DEBUG if route in PROBES else logging.INFO
        ended = "cut off" if status is None else status
        log.log(level, "%s %s %s", method, route, ended, extra={"fields": fields})
        counted = method if method in _METHODS and route != UNMATCHED else "other"
        self._metrics.requests.labels(route, counted, status or 500).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)


def route_of(scope: Scope) -> str:
    """Return the template of the request's path, or "unmatched".

    Logs and Prometheus metrics show only the template: there are few of them, and an address may contain a secret.
    """
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return UNMATCHED
    asked = scope["path"].removeprefix(scope.get("root_path", ""))
    # a route with two addresses, with and without the prefix, is one object and does not know the prefix
    return f"{PREFIX}{template}" if asked.startswith(f"{PREFIX}/") else str(template)


def _job(scope: Scope) -> dict[str, int]:
    """Return the log field for the job that the path names, the same as in workers' log lines."""
    named = str(scope.get("path_params", {}).get("job_id", ""))
    return {"job_id": int(named)} if named.isascii() and named.isdecimal() else {}
