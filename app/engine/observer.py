"""What the engine tells whoever watches it; called on the engine's thread, so an observer must be quick."""

from typing import Protocol


class EngineObserver(Protocol):
    """Receives the engine's measurements as they are made."""

    def step(self, rows: int, forward_rows: int, seconds: float, batch_limit: int) -> None:
        """`rows` rows advanced in `seconds`, `forward_rows` (of at most `batch_limit`) in the network's batch."""

    def row_waited(self, seconds: float) -> None:
        """A row took its first step after that long in the queue."""

    def refused(self, reason: str) -> None:
        """A request was not taken; reason is one of a few fixed words."""


class NoObserver:
    """Watches nothing."""

    def step(self, rows: int, forward_rows: int, seconds: float, batch_limit: int) -> None:
        """Ignored."""

    def row_waited(self, seconds: float) -> None:
        """Ignored."""

    def refused(self, reason: str) -> None:
        """Ignored."""
