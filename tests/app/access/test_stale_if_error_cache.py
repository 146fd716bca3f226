"""Laws of the cache: it reloads old values, shares loads, and serves stale values only while the source is away."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from darkroom.app.access.stale_if_error_cache import SourceAway, StaleIfErrorCache
from darkroom.store.database import DatabaseAway
from tests.processes import PATIENCE_SECONDS

FRESH, STALE = 5.0, 300.0


class Source:
    """A source that records its calls, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.value = "first"
        self.asked: list[str] = []
        self.away = False
        self.gate = threading.Event()
        self.gate.set()

    def load(self, key: str) -> str:
        self.asked.append(key)
        value = self.value
        assert self.gate.wait(PATIENCE_SECONDS)
        if self.away:
            raise DatabaseAway("the server has gone")
        return value

    def cache(self, *, entries: int = 100, timeout_seconds: float = PATIENCE_SECONDS) -> StaleIfErrorCache[str, str]:
        return StaleIfErrorCache(
            self.load,
            fresh_seconds=FRESH,
            stale_seconds=STALE,
            timeout_seconds=timeout_seconds,
            entries=entries,
            clock=lambda: self.now,
        )


async def test_a_value_is_loaded_again_when_it_is_no_longer_fresh() -> None:
    source = Source()
    cache = source.cache()
    assert await cache.get("a") == "first"
    source.value = "second"
    source.now += FRESH - 0.001
    assert await cache.get("a") == "first"
    source.now += 0.001
    assert await cache.get("a") == "second"
    assert source.asked == ["a", "a"]
    source.value = "third"
    cache.forget()
    assert await cache.get("a") == "third"


async def test_a_value_ages_from_the_start_of_its_load() -> None:
    source = Source()
    cache = source.cache()
    source.gate.clear()
    first = asyncio.create_task(cache.get("a"))
    await _until(lambda: source.asked == ["a"])
    source.now += FRESH
    source.value = "second"
    source.gate.set()
    assert await first == "first"
    assert await cache.get("a") == "second"


async def test_a_load_that_runs_during_forget_is_not_kept() -> None:
    source = Source()
    cache = source.cache()
    source.gate.clear()
    first = asyncio.create_task(cache.get("a"))
    await _until(lambda: source.asked == ["a"])
    cache.forget()
    source.value = "second"
    source.gate.set()
    assert await first == "first"
    assert await cache.get("a") == "second"


async def test_concurrent_callers_share_one_load() -> None:
    source = Source()
    cache = source.cache()
    source.gate.clear()
    asking = [asyncio.create_task(cache.get("a")) for _ in range(20)]
    await _until(lambda: source.asked == ["a"])
    source.gate.set()
    assert await asyncio.gather(*asking) == ["first"] * 20
    assert source.asked == ["a"]


async def test_while_the_source_is_away_a_value_is_served_until_it_is_stale() -> None:
    source = Source()
    cache = source.cache()
    await cache.get("a")
    source.away = True
    source.now += FRESH
    assert await cache.get("a") == "first"
    asked = len(source.asked)
    assert await cache.get("a") == "first"
    assert len(source.asked) == asked  # not every call tries the source again
    with pytest.raises(SourceAway):
        await cache.get("b")
    source.now = 1000.0 + STALE - 0.001
    assert await cache.get("a") == "first"
    source.now = 1000.0 + STALE
    with pytest.raises(SourceAway):
        await cache.get("a")
    source.away, source.value = False, "second"
    source.now += FRESH
    assert await cache.get("a") == "second"


async def test_a_source_that_hangs_counts_as_away() -> None:
    source = Source()
    cache = source.cache(timeout_seconds=0.01)
    source.gate.clear()
    try:
        with pytest.raises(SourceAway):
            await cache.get("a")
    finally:
        source.gate.set()


async def test_a_first_load_that_takes_too_long_makes_no_other_wait_or_fail() -> None:
    source = Source()
    cache = source.cache()
    cache._first_timeout_seconds = PATIENCE_SECONDS
    await cache.get("known")
    source.gate.clear()
    cache._first_timeout_seconds = 0.01
    try:
        with pytest.raises(SourceAway):
            await cache.get("unknown")
        hanging = [asyncio.create_task(cache.get(f"unknown {number}")) for number in range(20)]
        source.now += FRESH
        known = asyncio.create_task(cache.get("known"))  # is loaded again beside all that wait
        await _until(lambda: source.asked.count("known") == 2)
    finally:
        source.gate.set()
        cache._first_timeout_seconds = PATIENCE_SECONDS
    assert await known == "first"
    await asyncio.gather(*hanging, return_exceptions=True)
    assert await cache.get("unknown") == "first"


async def test_other_errors_reach_the_caller() -> None:
    def broken(_: str) -> str:
        raise ZeroDivisionError

    cache: StaleIfErrorCache[str, str] = StaleIfErrorCache(broken, fresh_seconds=FRESH, stale_seconds=STALE)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await cache.get("a")


async def test_the_least_recently_used_value_is_dropped() -> None:
    source = Source()
    cache = source.cache(entries=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        await cache.get(key)
    assert source.asked == ["a", "b", "c", "b"]


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)
