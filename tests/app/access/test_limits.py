"""Laws of limits: a window never exceeds its limit, refusals are not counted, and counting continues without Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from darkroom.app.access.limits import ATTEMPTS, IMAGES, REDIS_CONNECTIONS, REQUESTS, RETRY_SECONDS, Limits
from darkroom.app.access.too_many_requests import _span
from darkroom.app.embedded.redis import PrivateRedis
from tests.processes import PATIENCE_SECONDS

_keys = count(1)


class Clock:
    """The time of day, and the seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0  # 40 s into a minute
        self.monotonic = 5.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def limits(url: str | None, clock: Clock, alone: Callable[[], None] = lambda: None) -> AsyncIterator[Limits]:
    made = Limits(
        url, counted_alone=alone, clock=clock, monotonic=lambda: clock.monotonic, redis_seconds=PATIENCE_SECONDS
    )
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(params=["redis", "alone"])
def url(request: pytest.FixtureRequest, redis_server: PrivateRedis) -> str | None:
    return redis_server.url if request.param == "redis" else None


async def test_a_window_holds_its_limit_and_a_new_one_begins(url: str | None) -> None:
    clock, key = Clock(), next(_keys)
    async with limits(url, clock) as made:
        uses = [await made.take(key, REQUESTS, 3) for _ in range(5)]
        assert [use.allowed for use in uses] == [True, True, True, False, False]
        assert [use.remaining for use in uses] == [2, 1, 0, 0, 0]
        assert {use.reset_seconds for use in uses} == {20}
        assert (await made.take(key, IMAGES, 3)).allowed  # another window
        assert (await made.take(next(_keys), REQUESTS, 3)).remaining == 2  # another key
        clock.now += 19.5
        late = await made.take(key, REQUESTS, 3)
        assert (late.allowed, late.reset_seconds) == (False, 1)
        clock.now += 0.5
        fresh = await made.take(key, REQUESTS, 3)
        assert (fresh.allowed, fresh.remaining, fresh.reset_seconds) == (True, 2, 60)


async def test_refused_and_returned_use_is_not_counted(url: str | None) -> None:
    key = next(_keys)
    async with limits(url, Clock()) as made:
        assert (await made.take(key, IMAGES, 10, 8)).remaining == 2
        refused = await made.take(key, IMAGES, 10, 3)
        assert (refused.allowed, refused.remaining) == (False, 2)
        assert (await made.take(key, IMAGES, 10, 2)).remaining == 0
        assert (await made.take(key, IMAGES, 10, -8)).remaining == 8
        assert (await made.take(key, IMAGES, 10, -50)).remaining == 10  # use never falls below zero
        assert not (await made.take(key, IMAGES, 0)).allowed


async def test_a_process_forgets_ended_windows_and_never_keeps_more_than_its_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("darkroom.app.access.limits.MOST_COUNTED_HERE", 100)
    clock = Clock()
    async with limits(None, clock) as made:
        for owner in range(1000):
            assert (await made.take(f"address {owner}", ATTEMPTS, 2)).remaining == 1
        assert len(made._here[60]) == 100
        assert (await made.take("address 999", ATTEMPTS, 2)).remaining == 0  # the newest are counted on
        assert (await made.take(1, IMAGES, 2)).remaining == 1  # and other windows are not concerned
        clock.now += 60
        await made.take("address 1", ATTEMPTS, 2)
        assert len(made._here[60]) == 1
        assert (await made.take(1, IMAGES, 2)).remaining == 0


async def test_a_count_costs_the_same_however_many_there_are() -> None:
    class Counts(dict[str, tuple[int, float]]):
        looks = 0

        def values(self) -> Any:
            for value in super().values():
                Counts.looks += 1
                yield value

    async with limits(None, Clock()) as made:
        made._here[60] = Counts()
        for owner in range(2000):
            await made.take(f"address {owner}", ATTEMPTS, 2)
        assert len(made._here[60]) == 2000
        assert Counts.looks <= 2000


async def test_concurrent_requests_of_two_processes_stay_within_the_limit(redis_server: PrivateRedis) -> None:
    clock, key = Clock(), next(_keys)
    async with limits(redis_server.url, clock) as one, limits(redis_server.url, clock) as other:
        uses = await asyncio.gather(*(made.take(key, REQUESTS, 50, 2) for _ in range(40) for made in (one, other)))
    assert sum(use.allowed for use in uses) == 25


async def test_many_requests_at_once_share_few_connections_and_all_are_counted(redis_server: PrivateRedis) -> None:
    key, alone = next(_keys), list[int]()
    async with limits(redis_server.url, Clock(), lambda: alone.append(1)) as made:
        uses = await asyncio.gather(*(made.take(key, REQUESTS, 1000) for _ in range(300)))
        assert sorted(use.remaining for use in uses) == list(range(700, 1000))
        assert made._redis is not None
        assert 1 < len(await made._redis.client_list()) <= REDIS_CONNECTIONS + 2, "the pool's, and those of other tests"
    assert not alone


async def test_without_redis_each_process_counts_alone_until_it_is_back(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path)
    server.start()
    clock, key, alone = Clock(), next(_keys), []
    try:
        async with limits(server.url, clock, lambda: alone.append(1)) as made:
            assert (await made.take(key, IMAGES, 5, 4)).remaining == 1
            server.stop()
            uses = [await made.take(key, IMAGES, 5, 2) for _ in range(4)]
            assert [use.allowed for use in uses] == [True, True, False, False]
            assert len(alone) == 4
            server.start()  # at the same address
            clock.monotonic += RETRY_SECONDS
            clock.now -= 3600.0  # somebody has set the clock back, which prolongs no pause
            back = await made.take(key, IMAGES, 5)
            assert (back.allowed, back.remaining) == (True, 0)
            assert len(alone) == 4
    finally:
        server.stop()


async def test_a_redis_that_never_answered_is_treated_like_a_lost_one() -> None:
    alone: list[int] = []
    async with limits("redis://127.0.0.1:1/0", Clock(), lambda: alone.append(1)) as made:
        assert [(await made.take(1, REQUESTS, 1)).allowed for _ in range(2)] == [True, False]
    assert alone == [1, 1]


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "1 s"), (119, "119 s"), (120, "2 min"), (7199, "2 h 0 min"), (45505, "12 h 39 min")]
)
def test_time_spans_are_formatted_for_people(seconds: int, words: str) -> None:
    assert _span(seconds) == words
