"""Counts requests, those under way, and their duration by route template, so that the labels stay few."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.route import UNMATCHED, route_of
from app.metrics import Metrics

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""The client chooses the method, and must not choose how many series there are."""


class HttpMetrics:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.requests_in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.requests_in_flight.dec()
            route = route_of(scope)
            method = scope["method"] if scope["method"] in _METHODS and route != UNMATCHED else "other"
            self._metrics.requests.labels(route, method, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - began)
