"""Laws of a service that stops: new requests get 503, running ones finish, and none ends without an answer."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from darkroom.app.http.stop_signals import noticing_stop
from darkroom.app.main import _drain, create_app
from darkroom.app.middleware.drain import Drain, Draining
from darkroom.app.settings import Settings
from tests.app.test_refusals import assert_problem


class _Held:
    """An application that answers its requests when `opened` is set. Its probes answer at once."""

    def __init__(self) -> None:
        self.opened, self.begun = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begins":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] in ("/held", "/begins"):
            self.begun.set()
            await self.opened.wait()
        await PlainTextResponse("done")(scope, receive, send)


def _client(held: _Held, drain: Drain) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(Draining(held, drain)), base_url="http://localhost")


async def test_a_request_that_runs_finishes_and_a_new_one_is_refused() -> None:
    held, drain = _Held(), Drain()
    async with _client(held, drain) as client:
        running = asyncio.create_task(client.get("/held"))
        await held.begun.wait()
        assert (await client.get("/readyz")).status_code == 200
        drain.begun = True
        for path in ("/held", "/readyz"):
            refused = await client.get(path)
            assert_problem(refused, 503)
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.headers["X-Darkroom-Replica"] == "not-ready"
            assert refused.headers["Connection"] == "close"
        for probe in ("/healthz", "/metrics"):
            assert (await client.get(probe)).status_code == 200
        assert not await drain.finished(0.0)
        held.opened.set()
        assert (await running).text == "done"
        assert await drain.finished(0.0)


async def test_a_request_that_does_not_finish_gets_a_problem() -> None:
    held, drain = _Held(), Drain()
    async with _client(held, drain) as client:
        running = asyncio.create_task(client.get("/held"))
        await held.begun.wait()
        drain.begun = True
        await drain.cut()
        answer = await running
        assert_problem(answer, 503)
        assert "Retry-After" in answer.headers
        assert "X-Darkroom-Replica" not in answer.headers  # it may have taken effect: nobody may repeat it unasked


async def test_an_answer_that_has_begun_is_cut_off() -> None:
    held, drain = _Held(), Drain()
    async with _client(held, drain) as client:
        running = asyncio.create_task(client.get("/begins"))
        await held.begun.wait()
        drain.begun = True
        await drain.cut()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_the_server_ends_after_the_running_requests(tmp_path: Path) -> None:
    app = create_app(Settings(weights_folder=tmp_path, state_folder=tmp_path / "state", device="cpu"))
    drain, ended = app.state.drain, asyncio.Event()
    request = asyncio.create_task(asyncio.Event().wait())
    drain.running.add(request)
    draining = asyncio.create_task(_drain(app.state.services, drain, ended.set))
    while not drain.begun:
        await asyncio.sleep(0)
    assert not ended.is_set()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert_problem(await client.get("/v1/models"), 503)
        assert (await client.get("/metrics")).status_code == 200
    assert not ended.is_set()
    request.cancel()
    await draining
    assert ended.is_set()


async def test_after_the_drain_time_the_server_ends_requests_and_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.app.main.LAST_ANSWERS_SECONDS", 0.0)
    settings = Settings(weights_folder=tmp_path, state_folder=tmp_path / "state", device="cpu", drain_seconds=0)
    app = create_app(settings)
    request, ended = asyncio.create_task(asyncio.Event().wait()), asyncio.Event()
    app.state.drain.running.add(request)
    await _drain(app.state.services, app.state.drain, ended.set)
    assert request.cancelled()
    assert ended.is_set()


@contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_first_signal_waits_for_the_drain_and_the_second_does_not() -> None:
    ends: list[int] = []
    held: list[Callable[[], None]] = []
    with _handled(lambda number, frame: ends.append(number)), noticing_stop(held.append):
        signal.raise_signal(signal.SIGTERM)
        assert (ends, len(held)) == ([], 1)
        held[0]()
        assert ends == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert (ends, len(held)) == ([signal.SIGTERM] * 2, 1)
