"""Shows how far a command or a call is and when it will end: a bar on a terminal, otherwise a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from darkroom.model.progress import SECONDS_BETWEEN_LINES, Pace, counted
from darkroom.model.training.curve_point import time_left

FIRST_LINE_SECONDS = 2.0
"""Without a terminal: work that ends before the first line prints none."""

Number = Callable[[int], str]
COUNT: Number = "{:,}".format


class Meter(Protocol):
    """Shows what is being done, how much of it is done, and of how much. Call it as often as there is news.

    done, total: images, bytes, ...; total: None when nobody knows. number: a count as text.
    """

    def __call__(self, what: str, done: int = 0, total: int | None = None, number: Number = COUNT) -> None:
        """Take the news."""
        ...


class Lines:
    """A Meter that says a line after FIRST_LINE_SECONDS, and every SECONDS_BETWEEN_LINES from then on."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock, self._pace = say, clock, Pace(clock)
        self._due: float | None = None

    def __call__(self, what: str, done: int = 0, total: int | None = None, number: Number = COUNT) -> None:
        """Take the news."""
        self._pace.take(what, done)
        seconds = self._pace.seconds_left(total)
        if self._due is None:
            self._due = self._clock() + FIRST_LINE_SECONDS
        if self._clock() < self._due or (seconds is None and total is not None):  # soon the end is known, too
            return
        self._due = self._clock() + SECONDS_BETWEEN_LINES
        self._say(f"{counted(what, done, total, number)}{_left(seconds)}")


class _Bar:
    """A Meter that draws a bar on a terminal."""

    def __init__(self, bar: Progress, clock: Callable[[], float]) -> None:
        self._bar, self._pace = bar, Pace(clock)
        self._task = bar.add_task("", total=None, visible=False, left="")

    def __call__(self, what: str, done: int = 0, total: int | None = None, number: Number = COUNT) -> None:
        """Take the news."""
        if self._pace.take(what, done):
            self._bar.reset(self._task, total=total, visible=True)
        told, left = counted(what, done, total, number), _left(self._pace.seconds_left(total))
        self._bar.update(self._task, description=told, completed=done, total=total, left=left)


def _left(seconds: float | None) -> str:
    return f"  {time_left(seconds)}" if seconds else ""


@contextmanager
def progress(console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[Meter]:
    """Show progress during the block. Nothing of the bar stays on the terminal. console: default: of stderr."""
    if console is None:
        console = Console(stderr=True, force_jupyter=False)  # a notebook gets lines of text
    shown = console
    if not console.is_terminal:
        yield Lines(lambda line: shown.print(Text(line), soft_wrap=True), clock)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, clock)
