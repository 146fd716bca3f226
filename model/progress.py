"""Tells how far a piece of work is, and estimates the time left."""

import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

T = TypeVar("T")

OnProgress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and of how much. None: nobody knows of how much."""

SECONDS_BETWEEN_LINES = 30.0
"""Where a command cannot draw a bar, it prints a line of progress this often."""

ITEMS_BETWEEN_NEWS = 16
LEAST_SECONDS = 1.0
"""Work that has gone on for less time does not tell yet how fast it goes."""


def silent(what: str, done: int, total: int | None) -> None:
    """Take the news and do nothing."""


def counted(what: str, done: int, total: int | None, number: Callable[[int], str] = "{:,}".format) -> str:
    """Return the news as text, such as "drawing images: 3 of 10". number: a count as text."""
    return what if total is None else f"{what}: {number(done)} of {number(total)}"


class Pace:
    """Estimates the time left of the work under way, which goes on as fast as it has gone so far.

    Another `what`, or less done than before, begins other work, with its own pace. clock: seconds from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._what: str | None = None
        self._began = clock()
        self._first = self._last = 0

    def take(self, what: str, done: int) -> bool:
        """Take the news. Returns True when other work begins."""
        begins = what != self._what or done < self._last
        if begins:
            self._what, self._began, self._first = what, self._clock(), done
        self._last = done
        return begins

    def seconds_left(self, total: int | None) -> float | None:
        """Return the time left, or None when nobody can know it yet."""
        moved, seconds = self._last - self._first, self._clock() - self._began
        if total is None or moved <= 0 or seconds < LEAST_SECONDS:
            return None
        return seconds * max(0, total - self._last) / moved


def told(what: str, items: Collection[T], on_progress: OnProgress) -> Iterator[T]:
    """Yield the items, and tell how many of them are done."""
    for done, item in enumerate(items):
        if done % ITEMS_BETWEEN_NEWS == 0:
            on_progress(what, done, len(items))
        yield item
    on_progress(what, len(items), len(items))
