"""Ends the service without cutting requests: refuses new ones, lets running ones finish, and says why it ended them."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.app.http.problems import NOT_READY, Problem, retry_after
from darkroom.app.middleware.request_watch import PROBES

RETRY_SECONDS = 5.0
LAST_ANSWERS_SECONDS = 2.0
"""Requests have this long for their last answer after the drain time."""

READINESS = "/readyz"


class Drain:
    """The requests that are being answered, probes excepted. Use it on the event loop.

    begun: the service is stopping, so it answers 503 to every new request and to the readiness probe.
    """

    def __init__(self) -> None:
        self.begun = False
        self.running: set[asyncio.Task[Any]] = set()

    async def finished(self, seconds: float) -> bool:
        """Wait until no request runs, at most this long. Returns False when the time is over."""
        if not self.running:
            return True
        _, unfinished = await asyncio.wait(self.running, timeout=seconds)
        return not unfinished

    async def cut(self) -> None:
        """End the running requests. Those whose answer has not begun get a 503 problem."""
        for task in self.running:
            task.cancel()
        await self.finished(LAST_ANSWERS_SECONDS)


class Draining:
    """ASGI middleware that follows `drain`. Liveness and Prometheus metrics are answered until the end."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        path = scope.get("path")
        if scope["type"] != "http" or (path in PROBES and not (path == READINESS and self._drain.begun)):
            await self._app(scope, receive, send)
            return
        if self._drain.begun:
            detail = "the service is stopping and takes no new requests; try again"
            headers = retry_after(RETRY_SECONDS) | NOT_READY | {"Connection": "close"}
            await Problem(503, "unavailable", detail, headers=headers).response()(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._drain.running.add(task)
        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if started or not self._drain.begun:
                raise
            task.uncancel()
            detail = "the service stopped before the request was finished; look whether it took effect, or try again"
            problem = Problem(503, "unavailable", detail, headers=retry_after(RETRY_SECONDS))
            await problem.response()(scope, receive, send)
        finally:
            self._drain.running.discard(task)
