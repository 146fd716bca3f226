"""A cache that serves stale values while their source cannot be reached (compare RFC 5861, stale-if-error)."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from darkroom.store.database import DatabaseAway

K = TypeVar("K")
V = TypeVar("V")


class SourceAway(Exception):
    """The source does not answer, and the cache has no value, or only one that is too old."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    asked_at: float


class StaleIfErrorCache(Generic[K, V]):
    """Caches what `load` returns, and loads a value again when it is older than `fresh_seconds`. For one event loop.

    While the database cannot be reached, or takes longer than `timeout_seconds`, a value may be `stale_seconds` old.
    The cache then tries the database only every `fresh_seconds`, so that not every request waits. Callers of one key
    share one load. A key without a value to serve waits for `first_timeout_seconds`, because it would be refused. Such
    loads have threads of their own, and one that takes too long makes no other call wait: many may only be queued.
    entries: the most values kept; the least recently used is dropped. clock: monotonic seconds.
    """

    def __init__(
        self,
        load: Callable[[K], V],
        *,
        fresh_seconds: float,
        stale_seconds: float,
        timeout_seconds: float = 1.0,
        first_timeout_seconds: float = 3.0,
        entries: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._timeout_seconds = timeout_seconds
        self._first_timeout_seconds = first_timeout_seconds
        self._limit = entries
        self._clock = clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}
        self._ask_again_at = -float("inf")
        # own threads, because all shared threads may be waiting for a database that does not answer
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="access")
        self._first_threads = ThreadPoolExecutor(2, thread_name_prefix="access-first")

    async def get(self, key: K) -> V:
        """Return the value. Raises SourceAway, and other errors of `load`."""
        entry, now = self._entries.get(key), self._clock()
        if entry is not None and now - entry.asked_at < self._fresh_seconds:
            self._entries.move_to_end(key)
            return entry.value
        usable = entry is not None and now - entry.asked_at < self._stale_seconds
        if now >= self._ask_again_at:
            task = self._asking.get(key) or self._ask(key, now, self._threads if usable else self._first_threads)
            try:
                limit = self._timeout_seconds if usable else self._first_timeout_seconds
                return await asyncio.wait_for(asyncio.shield(task), limit)
            except (DatabaseAway, TimeoutError) as error:
                if usable or not isinstance(error, TimeoutError):
                    self._ask_again_at = self._clock() + self._fresh_seconds
        if entry is not None and usable:
            return entry.value
        raise SourceAway

    def last(self, key: K) -> V | None:
        """Return the cached value, however old, without loading; None without one."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def forget(self) -> None:
        """Serve no value again before it is loaded again. A load that is still running is not kept either."""
        self._entries = OrderedDict((key, _Entry(one.value, -float("inf"))) for key, one in self._entries.items())
        self._asking.clear()

    def close(self) -> None:
        """End the threads."""
        for threads in (self._threads, self._first_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, key: K, now: float, threads: ThreadPoolExecutor) -> asyncio.Task[V]:
        task = asyncio.get_running_loop().create_task(self._loaded(key, threads))
        self._asking[key] = task

        def keep(done: asyncio.Task[V]) -> None:
            failed = done.cancelled() or done.exception() is not None
            if self._asking.get(key) is not done:
                return
            del self._asking[key]
            if not failed:
                self._entries[key] = _Entry(done.result(), now)
                self._entries.move_to_end(key)
                if len(self._entries) > self._limit:
                    self._entries.popitem(last=False)

        task.add_done_callback(keep)
        return task

    async def _loaded(self, key: K, threads: ThreadPoolExecutor) -> V:
        return await asyncio.get_running_loop().run_in_executor(threads, self._load, key)
