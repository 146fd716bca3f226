"""Reads HTTP like uvicorn, with a limit on the time of headers, and problems for bytes that are no HTTP request.

Such bytes never reach the application: a header with NUL, a long address, a chunk with a wrong length. uvicorn itself
would wait for headers for ever, and so hold a connection.
"""

import asyncio
import sys
from http import HTTPStatus
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from darkroom.app.http.problems import HTTP_KINDS, MEDIA_TYPE, Problem

ANSWERABLE = (h11.IDLE, h11.SEND_RESPONSE)
"""In these states of the connection no answer has begun."""

SENDING_SECONDS = 30.0
"""Headers must be complete so long after their first byte."""

READ_ON_SECONDS = 1.0
"""A client may still send for this long. If the service closed the connection with unread bytes, the operating system
would reset it, and the client would see the reset in place of the answer."""


class ProblemProtocol(H11Protocol):
    """uvicorn's protocol for HTTP/1.1, with problem details in place of its own text.

    The time for headers begins with the first byte of a request, so a client that trickles gets no more of it. A
    connection without any byte ends like an idle one, after `--timeout-keep-alive`.
    """

    _refused = False
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        super().connection_made(cast(asyncio.Transport, transport))
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Read bytes (asyncio). Those after a refusal are thrown away."""
        if self._refused:
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_limit()
        elif self._limit is None:
            self._limit = self.loop.call_later(SENDING_SECONDS, self._refuse_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        self._end_limit()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer the error that h11 has just raised, and close the connection. msg: uvicorn's own text."""
        if self.cycle is not None:  # the application must not answer a second time
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431 and b"\n" not in self.conn.trailing_data[0]:
            status = 414  # not one line has ended: the address alone is too long
        why = str(error).partition(": bytearray(")[0][:300]
        self._refuse(Problem(status, HTTP_KINDS[status], f"the service cannot read the request: {why}"))

    def _end_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _refuse_slow(self) -> None:
        detail = f"the headers are not complete after {SENDING_SECONDS:g} seconds; send them again, faster"
        self._refuse(Problem(408, "headers-too-slow", detail))

    def _refuse(self, problem: Problem) -> None:
        """Answer a request that the application never sees, and close the connection."""
        self._refused = True
        if self.conn.our_state not in ANSWERABLE:
            self.transport.close()
            return
        body = problem.body()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        status = HTTPStatus(problem.status)
        for event in (
            h11.Response(status_code=status.value, headers=headers, reason=status.phrase.encode()),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(READ_ON_SECONDS, self.transport.close)
