"""Limits the size of request bodies. It counts the bytes that arrive, since Content-Length may be absent or wrong."""

import contextlib
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.app.http.problems import Problem


class _BodyTooLarge(Exception):
    """The stream passed the limit."""


class BodyLimit:
    """ASGI middleware that answers 413 as soon as Content-Length, or the bytes that arrive, exceed the limit.

    limit_bytes: returns the limit of a request from its ASGI scope.
    """

    def __init__(self, app: ASGIApp, limit_bytes: Callable[[Scope], int]) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit_bytes = self._limit_bytes(scope)
        too_large = Problem(413, "body-too-large", f"the body is larger than {limit_bytes} bytes")
        stated = dict(scope["headers"]).get(b"content-length", b"")
        if stated.isdigit() and int(stated) > limit_bytes:
            await too_large.response()(scope, receive, send)
            return
        received, over, started = 0, False, False

        async def counted() -> Message:
            nonlocal received, over
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit_bytes:
                over = True
                raise _BodyTooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if over and not started:
                return  # drop the application's answer to the broken stream; 413 follows
            started = True
            await send(message)

        with contextlib.suppress(_BodyTooLarge):
            await self._app(scope, counted, watched)
        if over and not started:
            await too_large.response()(scope, receive, send)
