"""Lets the gate decide about every request before anything reads its body."""

from starlette.types import ASGIApp, Receive, Scope, Send

from darkroom.app.access.gate import Gate
from darkroom.app.access.limits import rate_limit_headers
from darkroom.app.http.answer_headers import with_headers
from darkroom.app.http.problems import Problem


class AccessControl:
    """ASGI middleware that asks the gate before anything reads the body. Its answers' headers show the key's limits."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._gate.admit(scope)
        except Problem as refusal:
            await refusal.response()(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        limited = with_headers(send, lambda headers: headers.update(rate_limit_headers(caller.uses.values())))
        await self._app(scope, receive, limited)
