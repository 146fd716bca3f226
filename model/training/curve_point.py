"""A point of a run's training curve. The loop, files, the database and answers all use this class."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from darkroom.model.progress import SECONDS_BETWEEN_LINES
from darkroom.model.training.forecast import Forecast
from darkroom.model.words import several

DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class CurvePoint:
    """Loss and gradient norm are means since the previous point.

    learning_rate: of the last batch. images_per_second: of training, without checkpoints, samples and evaluations.
    memory_bytes: the peak so far: memory allocated on the device (CUDA), or this process's resident set.
    seconds_left: of training, without later checkpoints, samples and evaluations; None for points of older runs.
    """

    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    memory_bytes: int
    seconds_left: float | None = None

    @property
    def summary(self) -> str:
        """Speed and loss, for people."""
        return f"{self.images_per_second:.0f}/s  loss {self.loss:.4f}"

    @property
    def total_images(self) -> int:
        """The images of the whole run: as the recipe says, or what the time left is expected to bring."""
        return self.images_seen + round((self.seconds_left or 0.0) * self.images_per_second)


def duration(seconds: float) -> str:
    """Return a time for people, in its largest fitting unit, such as "3.5 hours"."""
    for unit, length in (("days", DAY_SECONDS), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return several(round(seconds), "second")


def time_left(seconds: float) -> str:
    """Return the time left and the time of day at its end, for people."""
    end = datetime.now() + timedelta(seconds=seconds)
    return f"{duration(seconds)} left, until {end:%H:%M}" + ("" if seconds < DAY_SECONDS else f" on {end:%d %B}")


def progress_facts(now: CurvePoint, expected: Forecast | None) -> str:
    """Return speed, loss, the time left and the expected distance, for people."""
    told = f"{now.summary}  {time_left(now.seconds_left or 0.0)}"
    return told if expected is None else f"{told}  expected distance {expected}"


class ProgressLines:
    """Shows a line on how far a run is: at its first point, and every SECONDS_BETWEEN_LINES from then on.

    expected: returns the run's forecast at that time, or None before its first verdict.
    """

    def __init__(self, say: Callable[[str], None], expected: Callable[[], Forecast | None]) -> None:
        self._say, self._expected = say, expected
        self._due = time.monotonic()

    def __call__(self, now: CurvePoint) -> None:
        if time.monotonic() >= self._due:
            facts = progress_facts(now, self._expected())
            self._say(f"{now.images_seen:,} of {now.total_images:,} images  {facts}")
            self._due = time.monotonic() + SECONDS_BETWEEN_LINES
