"""Reads the rest of a refused request's body, within bounds, and throws it away.

Many clients send the whole body before they read the answer. If the service closed the connection with unread bytes,
the operating system would reset it, and the client would see the reset in place of the answer.
"""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.app.http.answer_headers import with_headers
from darkroom.app.middleware.body_limit import has_body

READ_ON_BYTES = 64 << 20
READ_ON_SECONDS = 10.0
SILENT_SECONDS = 1.0
"""A client that sends nothing for this time has stopped."""


class ReadOn:
    """ASGI middleware. It sends the refusal at once, but its end, which closes the connection, only after the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        sending = has_body(headers)
        # A client that expects "100 Continue" sends no body before it.
        asked_to_send = headers.get(b"expect", b"").lower() != b"100-continue"
        cut = False

        async def counted() -> Message:
            nonlocal sending, asked_to_send
            asked_to_send = True
            message = await receive()
            sending = sending and bool(message.get("more_body"))
            return message

        closing = with_headers(send, lambda headers: headers.update({"Connection": "close"}))

        async def held(message: Message) -> None:
            nonlocal cut
            if message["type"] == "http.response.start":
                cut = sending and message["status"] >= 400
                await (closing if cut else send)(message)
            else:
                await send({**message, "more_body": True} if cut else message)

        await self._app(scope, counted, held)
        if cut:
            if asked_to_send:
                await _throw_away(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _throw_away(receive: Receive) -> None:
    """Read a body until its end or SILENT_SECONDS of silence, within READ_ON_BYTES and READ_ON_SECONDS."""
    end, left, more = time.monotonic() + READ_ON_SECONDS, READ_ON_BYTES, True
    while more and left > 0 and time.monotonic() < end:
        try:
            message = await asyncio.wait_for(receive(), SILENT_SECONDS)
        except TimeoutError:
            return
        left -= len(message.get("body", b""))
        more = bool(message.get("more_body"))
