"""Laws of slow senders: one that stops or trickles gets 408, and one that sends at a fair speed may take long."""

import asyncio
import json

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from darkroom.app.middleware.body_limit import BodyLimit

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/generate", "headers": [(b"transfer-encoding", b"chunked")]}


async def _echo_length(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def _answer(receive: Receive, sending_seconds: float) -> tuple[int, bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await BodyLimit(_echo_length, lambda scope: 1_000_000, sending_seconds)(dict(SCOPE), receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[1]["body"]


async def test_a_client_that_stops_sending_gets_408() -> None:
    pieces = iter([b"{"])

    async def receive() -> Message:
        for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    status, body = await _answer(receive, 0.01)
    assert status == 408
    problem = json.loads(body)
    assert problem["type"] == "/docs/errors#body-too-slow"
    assert "1 bytes have arrived" in problem["detail"]


async def test_a_client_that_trickles_gets_408() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.003)
        return {"type": "http.request", "body": b"a", "more_body": True}

    assert (await _answer(receive, 0.02))[0] == 408


async def test_bytes_that_arrive_earn_more_time() -> None:
    left = 10

    async def receive() -> Message:
        nonlocal left
        left -= 1
        if left < 9:
            await asyncio.sleep(0.003)
        return {"type": "http.request", "body": b"a" * 50_000, "more_body": left > 0}

    assert await _answer(receive, 0.003) == (200, b"500000")


async def test_waiting_for_the_client_to_leave_takes_as_long_as_it_takes() -> None:
    left = asyncio.Event()
    whole = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> Message:
        for message in whole:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0.03)
        assert not waiting.done()
        left.set()
        assert (await waiting)["type"] == "http.disconnect"

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await BodyLimit(app, lambda scope: 10, 0.01)(dict(SCOPE), receive, send)
