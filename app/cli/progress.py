"""Shows how far a command is and when it will end: a bar on a terminal, otherwise a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from darkroom.app.cli.terminal import say
from darkroom.model.training.curve_point import duration

FIRST_LINE_SECONDS = 5.0
SECONDS_BETWEEN_LINES = 30.0
"""Without a terminal: a command that ends before the first line prints none."""


class Meter:
    """Says what a command does, how much of it is done, and of how much. Call it as often as there is news.

    done, total: images, bytes, ...; total: None when nobody knows. A new `what` begins a new stretch with its own time.
    """

    def __init__(
        self,
        console: Console,
        bar: Progress,
        number: Callable[[int], str],
        clock: Callable[[], float],
    ) -> None:
        self._console, self._bar, self._number, self._clock = console, bar, number, clock
        self._task = bar.add_task("", total=None, visible=False)
        self._what: str | None = None
        self._began, self._begun_at = clock(), 0
        self._due = self._began + FIRST_LINE_SECONDS

    def __call__(self, what: str, done: int = 0, total: int | None = None) -> None:
        """Take the news."""
        if what != self._what:
            self._what, self._began, self._begun_at = what, self._clock(), done
            self._bar.reset(self._task, description=what, completed=done, total=total, visible=True)
        self._bar.update(self._task, completed=done, total=total)
        moved = total is None or done > self._begun_at  # before, nobody knows how long it takes
        if moved and not self._console.is_terminal and self._clock() >= self._due:
            self._due = self._clock() + SECONDS_BETWEEN_LINES
            say(self._console, self._line(what, done, total))

    def _line(self, what: str, done: int, total: int | None) -> str:
        if total is None:
            return what
        seconds, moved = self._clock() - self._began, done - self._begun_at
        left = f"  {duration(seconds * (total - done) / moved)} left" if moved > 0 and done < total else ""
        return f"{what}: {self._number(done)} of {self._number(total)}{left}"


@contextmanager
def progress(
    console: Console,
    number: Callable[[int], str] = "{:,}".format,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Meter]:
    """Show progress during the block. Nothing of the bar stays on the terminal. number: a count as text."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Counts(number),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield Meter(console, bar, number, clock)


class _Counts(ProgressColumn):
    def __init__(self, number: Callable[[int], str]) -> None:
        super().__init__()
        self._number = number

    def render(self, task: Task) -> Text:
        """Return "3 of 10", nothing when the total is unknown."""
        known: Any = task.total
        return Text("" if known is None else f"{self._number(int(task.completed))} of {self._number(int(known))}")
