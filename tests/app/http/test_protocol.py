"""Laws of slow headers: the time begins with a request's first byte, and its end closes the connection."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.importer import import_from_string
from uvicorn.server import ServerState

from darkroom.app.embedded.process_commands import api_command
from darkroom.app.http.protocol import SENDING_SECONDS, ProblemProtocol

KEPT_SECONDS = 77
WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("answer")(scope, receive, send)


class _Connection:
    """A connection to the protocol without a socket. Its timers do not run; a test runs them."""

    def __init__(self) -> None:
        self.timers: list[tuple[Mock, float, Callable[[], Any]]] = []
        loop = Mock(wraps=asyncio.get_running_loop(), call_later=self._call_later)
        config = Config(_application, timeout_keep_alive=KEPT_SECONDS, log_config=None, lifespan="off")
        self.protocol = ProblemProtocol(config, ServerState(), {}, loop)
        self.sent, self.transport = b"", Mock(spec=asyncio.Transport, write=self._write)
        self.transport.is_closing.return_value = False
        self.transport.get_extra_info.return_value = None
        self.protocol.connection_made(self.transport)

    def _call_later(self, seconds: float, callback: Callable[[], Any]) -> Mock:
        handle = Mock(spec=asyncio.TimerHandle)
        self.timers.append((handle, seconds, callback))
        return handle

    def _write(self, data: bytes) -> None:
        self.sent += data

    @property
    def waiting(self) -> list[float]:
        """Seconds of the timers that nobody cancelled."""
        return [seconds for handle, seconds, _ in self.timers if not handle.cancel.called]

    def expire(self) -> None:
        """Run the only timer that waits."""
        ((_, _, callback),) = [timer for timer in self.timers if not timer[0].cancel.called]
        callback()

    async def answered(self) -> None:
        """Wait until the application has answered everything."""
        await asyncio.gather(*self.protocol.tasks)


@pytest.fixture
async def connection() -> _Connection:
    return _Connection()


async def test_headers_that_trickle_get_408_and_the_connection_closes(connection: _Connection) -> None:
    for byte in WHOLE[:-2]:
        connection.protocol.data_received(bytes([byte]))
    assert connection.waiting == [SENDING_SECONDS]
    assert connection.sent == b""
    connection.expire()
    head, body = connection.sent.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["type"] == "/docs/errors#headers-too-slow"
    connection.protocol.data_received(b"late")  # is read and thrown away
    connection.transport.write_eof.assert_called_once()
    connection.transport.close.assert_not_called()
    connection.timers[-1][2]()  # after READ_ON_SECONDS
    connection.transport.close.assert_called_once()
    connection.protocol.connection_lost(None)


async def test_whole_headers_end_the_limit_and_a_body_may_take_longer(connection: _Connection) -> None:
    connection.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\n")
    connection.protocol.data_received(b"Content-Length: 2\r\n\r\n")
    assert connection.waiting == []
    connection.protocol.data_received(b"a")
    assert connection.waiting == []
    connection.protocol.data_received(b"b")
    await connection.answered()
    assert connection.sent.startswith(b"HTTP/1.1 200 ")
    assert connection.waiting == [KEPT_SECONDS]


async def test_the_next_request_on_a_connection_has_a_limit_of_its_own(connection: _Connection) -> None:
    for _ in range(2):
        connection.sent = b""
        connection.protocol.data_received(WHOLE)
        await connection.answered()
        assert connection.sent.endswith(b"answer")
    connection.sent = b""
    connection.protocol.data_received(WHOLE[:3])
    assert connection.waiting == [SENDING_SECONDS]
    connection.expire()
    assert connection.sent.startswith(b"HTTP/1.1 408 ")


async def test_a_connection_without_a_byte_ends_like_an_idle_one(connection: _Connection) -> None:
    assert connection.waiting == [KEPT_SECONDS]
    connection.expire()
    connection.transport.close.assert_called_once()
    assert connection.sent == b""


async def test_a_client_that_leaves_ends_the_limit(connection: _Connection) -> None:
    connection.protocol.data_received(WHOLE[:3])
    connection.protocol.connection_lost(ConnectionResetError())
    assert connection.waiting == []


def test_the_service_runs_with_the_limit() -> None:
    command = api_command("127.0.0.1", 1)
    assert import_from_string(command[command.index("--http") + 1]) is ProblemProtocol
