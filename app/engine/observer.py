"""What the engine tells whoever watches it; called on the engine's thread, so an observer must be quick."""


class EngineObserver:
    """Receives the engine's measurements as they are made. This one does nothing with them."""

    def step(self, rows: int, forward_rows: int, seconds: float, batch_limit: int) -> None:
        """`rows` rows advanced in `seconds`, `forward_rows` (of at most `batch_limit`) in the network's batch."""

    def row_waited(self, seconds: float) -> None:
        """A row took its first step after that long in the queue."""

    def refused(self, reason: str) -> None:
        """A request was not taken; reason is one of a few fixed words."""

    def image_finished(self) -> None:
        """A row is done, and scored where that was asked for."""

    def request_ended(self, outcome: str) -> None:
        """A request that was taken has left: "finished", or the reason of its `app.engine.request.Failed`."""

    def version_loaded(self, outcome: str) -> None:
        """The warm-up of a model version is over: "loaded" or "failed"."""
