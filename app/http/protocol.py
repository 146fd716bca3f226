"""Reads HTTP like uvicorn, and answers bytes that are no HTTP request with a problem, too.

Such bytes never reach the application: a header with NUL, a long address, a chunk with a wrong length.
"""

import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from darkroom.app.http.problems import HTTP_KINDS, MEDIA_TYPE, Problem

ANSWERABLE = (h11.IDLE, h11.SEND_RESPONSE)
"""In these states of the connection no answer has begun."""


READ_ON_SECONDS = 1.0
"""A client may still send for this long. If the service closed the connection with unread bytes, the operating system
would reset it, and the client would see the reset in place of the answer."""


class ProblemProtocol(H11Protocol):
    """uvicorn's protocol for HTTP/1.1, with problem details in place of its own text."""

    _refused = False

    def data_received(self, data: bytes) -> None:
        """Read bytes (asyncio). Those after a refusal are thrown away."""
        if not self._refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer the error that h11 has just raised, and close the connection. msg: uvicorn's own text."""
        self._refused = True
        if self.cycle is not None:  # the application must not answer a second time
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in ANSWERABLE:
            self.transport.close()
            return
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431 and b"\n" not in self.conn.trailing_data[0]:
            status = 414  # not one line has ended: the address alone is too long
        why = str(error).partition(": bytearray(")[0][:300]
        body = Problem(status, HTTP_KINDS[status], f"the service cannot read the request: {why}").body()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(READ_ON_SECONDS, self.transport.close)
