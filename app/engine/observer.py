"""The interface by which the engine reports what it does. It calls on its own thread, so an observer must be quick."""


class EngineObserver:
    """Receives the engine's measurements. This base class ignores them."""

    def step(self, rows: int, network_rows: int, seconds: float, batch_limit: int) -> None:
        """A step advanced `rows` rows in `seconds`; they took `network_rows` of at most `batch_limit` network rows."""

    def row_waited(self, seconds: float) -> None:
        """A row took its first step, after `seconds` in the queue."""

    def refused(self, reason: str) -> None:
        """The engine refused a request. reason: one of a few fixed words."""

    def image_finished(self) -> None:
        """A row is finished: drawn, and scored if its request asked for scores."""

    def request_ended(self, outcome: str) -> None:
        """An accepted request has left. outcome: "finished", or the reason of its `app.engine.request.Failed`."""

    def warm_up_step(self, seconds: float) -> None:
        """A step of a version's warm-up ended; requests waited for it for `seconds`."""

    def version_loaded(self, outcome: str) -> None:
        """The warm-up of a model version has ended. outcome: "loaded" or "failed"."""
