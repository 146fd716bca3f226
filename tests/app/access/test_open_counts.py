"""Laws of the counts of open requests and streams: each caller has a share of its own, and gives back what it held."""

from contextlib import ExitStack, suppress
from datetime import UTC, datetime

import httpx
import pytest
from starlette.responses import PlainTextResponse

from darkroom.app.access.caller import Caller
from darkroom.app.access.gate import Gate
from darkroom.app.access.limits import Limits
from darkroom.app.access.open_counts import OpenCounts
from darkroom.app.access.verifier import VerifiedKey
from darkroom.app.http.problems import Problem
from darkroom.app.middleware.access_control import AccessControl
from darkroom.app.settings import Settings
from darkroom.store.key_repository import KeyLimits


def keyed(number: int, address: str = "192.0.2.1") -> Caller:
    key = VerifiedKey(number, "lab", frozenset({"train"}), KeyLimits(), datetime(9999, 1, 1, tzinfo=UTC))
    return Caller(key, client_address=address)


def at(address: str) -> Caller:
    return Caller(client_address=address)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (keyed(1), keyed(1, "192.0.2.9"), keyed(2)),
        (at("192.0.2.1"), at("192.0.2.1"), at("192.0.2.2")),
        (at("2001:db8::1"), at("2001:db8::ffff"), at("2001:db8:0:1::1")),
        (keyed(1, "127.0.0.1"), keyed(1, "127.0.0.1"), at("127.0.0.1")),
    ],
)
def test_each_caller_holds_at_most_its_share_and_gives_it_back(one: Caller, same: Caller, other: Caller) -> None:
    counts = OpenCounts("open-things", 2)
    with ExitStack() as held:
        for caller in (one, same, other, other):
            held.enter_context(counts.hold(caller))
        with pytest.raises(Problem, match="has 2 open things, the most at once") as refused, counts.hold(same):
            pass
        assert (refused.value.status, refused.value.kind) == (429, "open-things-limit")
        assert int(refused.value.headers["Retry-After"]) > 0
    for _ in range(3):
        with suppress(KeyError), counts.hold(one), counts.hold(one):
            raise KeyError


def test_a_program_on_this_machine_has_no_limit() -> None:
    counts = OpenCounts("open-things", 1)
    with counts.hold(at("127.0.0.1")), counts.hold(at("::1")), counts.hold(at("127.0.0.1")):
        pass


async def test_requests_of_one_address_above_its_share_get_429_and_probes_never() -> None:
    gate = Gate(Settings(), None, Limits(None), Limits(None), lambda reason: None)
    full = OpenCounts("open-requests", 1)
    once = AccessControl(PlainTextResponse("inner"), gate, full)
    twice = AccessControl(once, gate, full)  # counts each request twice, as if there were two
    for app, status in ((once, 200), (twice, 429), (once, 200)):
        transport = httpx.ASGITransport(app, client=("192.0.2.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.get("/docs")
            assert answer.status_code == status
            assert (await client.get("/healthz")).text == "inner"
