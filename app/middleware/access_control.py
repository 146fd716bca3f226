"""Lets the gate decide about every request before anything reads its body."""

from contextlib import ExitStack

from starlette.types import ASGIApp, Receive, Scope, Send

from darkroom.app.access.gate import Gate
from darkroom.app.access.limits import rate_limit_headers
from darkroom.app.access.open_counts import OpenCounts
from darkroom.app.http.answer_headers import with_headers
from darkroom.app.http.problems import Problem
from darkroom.app.middleware.request_watch import PROBES


class AccessControl:
    """ASGI middleware that asks the gate before anything reads the body. Its answers' headers show the key's limits.

    open_requests: counts the requests of each caller that are being answered, probes excepted.
    """

    def __init__(self, app: ASGIApp, gate: Gate, open_requests: OpenCounts) -> None:
        self._app = app
        self._gate = gate
        self._open_requests = open_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with ExitStack() as until_answered:
            try:
                caller = await self._gate.admit(scope)
                if scope["path"] not in PROBES:
                    until_answered.enter_context(self._open_requests.hold(caller))
            except Problem as refusal:
                await refusal.response()(scope, receive, send)
                return
            scope.setdefault("state", {}).update(caller=caller, until_answered=until_answered)
            limited = with_headers(send, lambda headers: headers.update(rate_limit_headers(caller.uses.values())))
            await self._app(scope, receive, limited)
