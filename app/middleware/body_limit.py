"""Limits the size of request bodies and the time to send them, and refuses encoded ones.

Content-Length may be absent or wrong.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.app.http.problems import Problem

SENDING_SECONDS = 30.0
SLOWEST_BYTES_PER_SECOND = 1000.0


_ENCODED = Problem(
    415,
    "unsupported-media-type",
    "send the body uncompressed, without a Content-Encoding header",
    headers={"Accept-Encoding": "identity"},
)


def has_body(headers: Mapping[bytes, bytes]) -> bool:
    """Return true for a request with a body. Without a length there is none."""
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


class _Refused(Exception):
    """The body passed a limit."""


class BodyLimit:
    """ASGI middleware that answers 413 as soon as Content-Length, or the bytes that arrive, exceed the limit.

    It answers 415 to an encoded body, such as a compressed one.

    It answers 408 to a client that has not sent its body after `sending_seconds`, and a second more for each
    SLOWEST_BYTES_PER_SECOND that have arrived. A client that stops therefore holds its connection no longer than that.

    limit_bytes: returns the limit of a request from its ASGI scope.
    """

    def __init__(
        self, app: ASGIApp, limit_bytes: Callable[[Scope], int], sending_seconds: float = SENDING_SECONDS
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._sending_seconds = sending_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding != b"identity" and has_body(headers):
            await _ENCODED.response()(scope, receive, send)
            return
        limit_bytes = self._limit_bytes(scope)
        too_large = Problem(413, "body-too-large", f"the body is larger than {limit_bytes} bytes")
        stated = headers.get(b"content-length", b"")
        if stated.isdigit() and int(stated) > limit_bytes:
            await too_large.response()(scope, receive, send)
            return
        refusal: Problem | None = None
        received, whole, started = 0, False, False
        patient_until = asyncio.get_running_loop().time() + self._sending_seconds

        async def counted() -> Message:
            nonlocal received, whole, refusal
            if whole:  # this waits for the client to leave
                return await receive()
            try:
                async with asyncio.timeout_at(patient_until + received / SLOWEST_BYTES_PER_SECOND):
                    message = await receive()
            except TimeoutError:
                detail = f"the body came too slowly: {received} bytes have arrived; send it again, faster"
                refusal = Problem(408, "body-too-slow", detail)
                raise _Refused from None
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > limit_bytes:
                refusal = too_large
                raise _Refused
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if refusal is not None and not started:
                return  # drop the application's answer to the broken stream; the refusal follows
            started = True
            await send(message)

        with contextlib.suppress(_Refused):
            await self._app(scope, counted, watched)
        if refusal is not None and not started:
            await refusal.response()(scope, receive, send)
