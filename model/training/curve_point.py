"""A point of a run's training curve. The loop, files, the database and answers all use this class."""

import time
from collections.abc import Callable
from dataclasses import dataclass

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class CurvePoint:
    """Loss and gradient norm are means since the previous point.

    learning_rate: of the last batch. images_per_second: of training, without checkpoints, samples and evaluations.
    memory_bytes: the peak so far: memory allocated on the device (CUDA), or this process's resident set.
    """

    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    memory_bytes: int

    @property
    def summary(self) -> str:
        """Speed and loss, for people."""
        return f"{self.images_per_second:.0f}/s  loss {self.loss:.4f}"

    def seconds_left(self, total_images: int) -> float:
        """Return the time to the end of a run at this speed; evaluations, sample grids and checkpoints take more."""
        return (total_images - self.images_seen) / self.images_per_second


def duration(seconds: float) -> str:
    """Return a time for people, in its largest fitting unit, such as "3.5 hours"."""
    for unit, length in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} seconds"


class ProgressLines:
    """Shows a line on how far a run is: at its first point, and every SECONDS_BETWEEN_LINES from then on."""

    def __init__(self, total_images: int, say: Callable[[str], None]) -> None:
        self._total_images = total_images
        self._say = say
        self._due = time.monotonic()

    def __call__(self, now: CurvePoint) -> None:
        if time.monotonic() >= self._due:
            left = duration(now.seconds_left(self._total_images))
            self._say(f"{now.images_seen:,} of {self._total_images:,} images  {now.summary}  {left} left")
            self._due = time.monotonic() + SECONDS_BETWEEN_LINES
