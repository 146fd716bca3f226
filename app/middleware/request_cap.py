"""Refuses requests while very many are being answered, so that memory and descriptors stay within bounds."""

from starlette.types import ASGIApp, Receive, Scope, Send

from darkroom.app.http.problems import Problem, retry_after
from darkroom.app.middleware.request_watch import PROBES

RETRY_SECONDS = 5.0


class RequestCap:
    """ASGI middleware that answers 503 to all requests above `most` at once. It always lets probes pass."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._now >= self._most:
            detail = f"the service is answering {self._now} requests, the most at once; try again"
            await Problem(503, "unavailable", detail, headers=retry_after(RETRY_SECONDS)).response()(
                scope, receive, send
            )
            return
        self._now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._now -= 1
