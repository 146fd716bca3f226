"""How long a step takes by the size of its batch: measured at warm-up, kept honest while serving."""

from bisect import bisect_left
from collections.abc import Mapping

SMOOTHING = 0.05
"""Weight of a new measurement against the curve so far."""

KNEE_LOSS = 0.1
"""The batch limit is the smallest size whose throughput is within this share of the best one's."""


class SpeedCurve:
    """Seconds a step, linear between measured batch sizes and proportional beyond the largest.

    measured: seconds by batch size in forward rows; sizes and seconds positive.
    one_thread_rows: steps of at most so many forward rows were measured on one thread, and are to run on one.
    """

    def __init__(self, measured: Mapping[int, float], one_thread_rows: int = 0) -> None:
        if not measured:
            raise ValueError("a speed curve needs at least one measurement")
        self.one_thread_rows = one_thread_rows
        self._sizes = sorted(measured)
        self._seconds = [measured[size] for size in self._sizes]

    def seconds(self, forward_rows: float) -> float:
        """Expected duration of a step of that many forward rows, in the mean over steps."""
        sizes, seconds = self._sizes, self._seconds
        if forward_rows <= sizes[0]:
            return seconds[0]
        if forward_rows >= sizes[-1]:
            return seconds[-1] * forward_rows / sizes[-1]
        high = bisect_left(sizes, forward_rows)
        share = (forward_rows - sizes[high - 1]) / (sizes[high] - sizes[high - 1])
        return seconds[high - 1] + share * (seconds[high] - seconds[high - 1])

    def observe(self, forward_rows: int, seconds: float) -> None:
        """Move the curve towards a step that was timed while serving."""
        nearest = min(range(len(self._sizes)), key=lambda i: abs(self._sizes[i] - forward_rows))
        scale = seconds / self.seconds(forward_rows)
        self._seconds[nearest] *= 1.0 + SMOOTHING * (scale - 1.0)

    def knee(self) -> int:
        """The smallest measured batch size whose rows a second come within KNEE_LOSS of the best."""
        rates = [size / seconds for size, seconds in zip(self._sizes, self._seconds, strict=True)]
        best = max(rates)
        return next(size for size, rate in zip(self._sizes, rates, strict=True) if rate >= (1.0 - KNEE_LOSS) * best)

    def largest_within(self, seconds: float, at_least: int) -> int:
        """The largest batch that is expected to take at most `seconds`, not less than `at_least`."""
        rows = at_least
        while rows < self._sizes[-1] and self.seconds(rows + 1) <= seconds:
            rows += 1
        return rows
