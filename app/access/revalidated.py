"""A cache of what a source says that may be away."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from darkroom.store.database import AWAY

K = TypeVar("K")
V = TypeVar("V")


class SourceAway(Exception):
    """The source does not answer, and what it said before is too old or was never asked."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    asked_at: float


class Revalidated(Generic[K, V]):
    """What `load` returns, asked again when it is older than `fresh_seconds`. To be used on one event loop.

    While the database is away, or takes longer than `patience_seconds`, an answer may be `stale_seconds` old; it is
    then asked for again after `fresh_seconds`, so that not every request waits. Callers of one key share the work.
    entries: kept at most; the least recently used leaves. clock: seconds that never go back.
    """

    def __init__(
        self,
        load: Callable[[K], V],
        *,
        fresh_seconds: float,
        stale_seconds: float,
        patience_seconds: float = 1.0,
        entries: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._patience_seconds = patience_seconds
        self._limit = entries
        self._clock = clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}
        self._ask_again_at = -float("inf")
        # threads of its own: the common ones may all be waiting for a database that does not answer
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="access")

    async def get(self, key: K) -> V:
        """The value; raises SourceAway, and what `load` raises when the source is there."""
        entry, now = self._entries.get(key), self._clock()
        if entry is not None and now - entry.asked_at < self._fresh_seconds:
            self._entries.move_to_end(key)
            return entry.value
        if now >= self._ask_again_at:
            task = self._asking.get(key) or self._ask(key, now)
            try:
                return await asyncio.wait_for(asyncio.shield(task), self._patience_seconds)
            except (*AWAY, TimeoutError):
                self._ask_again_at = self._clock() + self._fresh_seconds
        if entry is not None and now - entry.asked_at < self._stale_seconds:
            return entry.value
        raise SourceAway

    def last(self, key: K) -> V | None:
        """What was said last, however old and without asking; None when nothing was."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def forget(self) -> None:
        """Ask anew for everything; an answer that is still under way is not kept."""
        self._entries.clear()
        self._asking.clear()

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, key: K, now: float) -> asyncio.Task[V]:
        task = asyncio.get_running_loop().create_task(self._loaded(key))
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

    async def _loaded(self, key: K) -> V:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._load, key)
