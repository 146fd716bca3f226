"""The duration of a step by its batch size: measured at warm-up, and corrected while serving."""

from bisect import bisect_left
from collections.abc import Mapping

SMOOTHING = 0.05
"""Weight of a new measurement, of 1 in all."""

KNEE_LOSS = 0.05
"""The batch limit is the smallest size that loses at most this share of the best throughput."""


class SpeedCurve:
    """Seconds a step by batch size: linear between measured sizes, and proportional above the largest.

    measured: seconds by batch size in network rows; sizes and seconds positive.
    """

    def __init__(self, measured: Mapping[int, float]) -> None:
        if not measured:
            raise ValueError("a speed curve needs at least one measurement")
        self._sizes = sorted(measured)
        self._seconds = [measured[size] for size in self._sizes]

    def seconds(self, network_rows: float) -> float:
        """Return the expected duration of a step. network_rows: its network rows, or their mean over steps."""
        sizes, seconds = self._sizes, self._seconds
        if network_rows <= sizes[0]:
            return seconds[0]
        if network_rows >= sizes[-1]:
            return seconds[-1] * network_rows / sizes[-1]
        high = bisect_left(sizes, network_rows)
        share = (network_rows - sizes[high - 1]) / (sizes[high] - sizes[high - 1])
        return seconds[high - 1] + share * (seconds[high] - seconds[high - 1])

    def seconds_alone(self, network_rows: float, steps: int, limit: int) -> float:
        """Return the time of rows that have the engine for themselves, `limit` network rows a step.

        network_rows: of all rows in one step; steps: of each row.
        """
        waves, rest = divmod(network_rows, limit)
        return steps * (waves * self.seconds(limit) + (self.seconds(rest) if rest > 0.0 else 0.0))

    def observe(self, network_rows: int, seconds: float) -> None:
        """Move the curve towards the measured duration of a step that served requests."""
        nearest = min(range(len(self._sizes)), key=lambda i: abs(self._sizes[i] - network_rows))
        scale = seconds / self.seconds(network_rows)
        self._seconds[nearest] *= 1.0 + SMOOTHING * (scale - 1.0)

    def knee(self) -> int:
        """Return the smallest measured batch size that loses at most KNEE_LOSS of the best throughput."""
        rates = [size / seconds for size, seconds in zip(self._sizes, self._seconds, strict=True)]
        best = max(rates)
        return next(size for size, rate in zip(self._sizes, rates, strict=True) if rate >= (1.0 - KNEE_LOSS) * best)

    def largest_within(self, seconds: float, at_least: int) -> int:
        """Return the largest batch size that is expected to take at most `seconds`, but not less than `at_least`."""
        rows = at_least
        while rows < self._sizes[-1] and self.seconds(rows + 1) <= seconds:
            rows += 1
        return rows
