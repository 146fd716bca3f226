"""Laws of the cap on requests at once: above it all get 503 except probes, and ended requests make room."""

import asyncio

import httpx
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from darkroom.app.middleware.request_cap import RequestCap
from tests.app.test_refusals import assert_problem


async def test_requests_above_the_cap_get_503_and_probes_never() -> None:
    opened, begun = asyncio.Event(), list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        if scope["path"] == "/generate":
            await opened.wait()
        await PlainTextResponse("done")(scope, receive, send)

    transport = httpx.ASGITransport(RequestCap(app, most=3))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        held = [asyncio.ensure_future(client.post("/generate")) for _ in range(3)]
        while len(begun) < 3:
            await asyncio.sleep(0)
        refused = await client.post("/generate")
        assert_problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        for probe in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(probe)).status_code == 200
        assert begun.count("/generate") == 3
        held.pop().cancel()
        opened.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        for _ in range(4):
            assert (await client.post("/generate")).status_code == 200
