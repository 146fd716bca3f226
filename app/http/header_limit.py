"""Limits the time to send a request's headers. uvicorn itself would wait for ever, and so hold a connection."""

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from darkroom.app.http.problems import Problem

SENDING_SECONDS = 30.0


class HeaderLimit(H11Protocol):
    """uvicorn's HTTP protocol, with a limit. It answers 408 and closes the connection when the limit is over.

    The time begins with the first byte of a request, so a client that trickles gets no more of it. A connection without
    any byte ends like an idle one, after `--timeout-keep-alive`.
    """

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        super().connection_made(cast(asyncio.Transport, transport))
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client (asyncio)."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_limit()
        elif self._limit is None:
            self._limit = self.loop.call_later(SENDING_SECONDS, self._refuse)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        self._end_limit()
        super().connection_lost(exc)

    def _end_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _refuse(self) -> None:
        detail = f"the headers are not complete after {SENDING_SECONDS:g} seconds; send them again, faster"
        answer = Problem(408, "headers-too-slow", detail).response()
        head = h11.Response(status_code=answer.status_code, headers=[*answer.raw_headers, (b"connection", b"close")])
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
