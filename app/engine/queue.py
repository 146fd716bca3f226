"""The requests that the engine holds, and their rows.

Counts are kept at every change. So nobody walks the rows to learn how many there are, or how much work is left.
"""

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass

from darkroom.app.engine.forecast import Forecast, Work, foresee
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.phases import Phase
from darkroom.app.engine.policy import pick_rows
from darkroom.app.engine.request import DeadlineUnmeetable, Failed, Finished, QueueFull, Sink, TooManyRows
from darkroom.app.engine.residents import Resident


@dataclass(eq=False)
class Row:
    """One image on its way. begun: it has taken its first step, or is about to."""

    request: "Request"
    phase: Phase
    begun: bool = False

    @property
    def forward_rows(self) -> int:
        """Of its next step."""
        return self.phase.forward_rows


class Request:
    """An accepted request; it leaves the engine with its one Finished or Failed event.

    submitted, due, deadline, begun: on the engine's clock. context: of whoever submitted it, so that what is logged of
    it can be told from its batchmates'.
    """

    def __init__(self, resident: Resident, sink: Sink, forecast: Forecast, work: Work, phases: Sequence[Phase]) -> None:
        self.resident = resident
        self.sink = sink
        self.submitted = forecast.now
        self.due = forecast.due
        self.deadline = forecast.deadline
        self.idle_seconds = forecast.idle_seconds
        self.unfinished = [Row(self, phase) for phase in phases]
        self.forward_rows_left = work.forward_rows
        self.total_steps = sum(phase.steps_left for phase in phases)
        self.done_steps = 0
        self.begun: float | None = None
        self.cancelled = False
        self.ended = False
        self.context = copy_context()


def _due(request: Request) -> float:
    return request.due


class Queue:
    """Requests, the one that is due first in front. Every caller holds the engine's lock.

    limit: of unfinished rows. rows: unfinished; running: those of them that have begun. open: requests by version.
    forward_rows_left: of all requests of a version.
    """

    def __init__(self, limit: int, observer: EngineObserver) -> None:
        self.limit = limit
        self._observer = observer
        self.requests: list[Request] = []
        self.rows = 0
        self.running = 0
        self.open: Counter[Resident] = Counter()
        self.forward_rows_left: Counter[Resident] = Counter()

    def require_room(self, rows: int) -> None:
        """Raise TooManyRows or QueueFull where so many rows do not fit."""
        if rows > self.limit:
            raise TooManyRows(rows, self.limit)
        surplus = self.rows + rows - self.limit
        if surplus > 0:
            backlog = sum(resident.seconds(left) for resident, left in self.forward_rows_left.items())
            raise QueueFull(rows, self.rows, self.limit, backlog * surplus / self.rows)

    def admit(self, now: float, resident: Resident, work: Work, deadline_seconds: float | None) -> Forecast:
        """The forecast for work that may come in now; raises TooManyRows, QueueFull or DeadlineUnmeetable."""
        self.require_room(work.rows)
        forecast = foresee(now, resident, work, deadline_seconds)
        if deadline_seconds is not None:
            expected = self.expected_seconds(forecast)
            if expected > deadline_seconds:
                raise DeadlineUnmeetable(deadline_seconds, expected, forecast.idle_seconds)
        return forecast

    def expected_seconds(self, forecast: Forecast) -> float:
        """How long it takes until that is done, with the work before it that is due earlier or at the same time."""
        before: Counter[Resident] = Counter()
        for request in self.requests[: bisect_right(self.requests, forecast.due, key=_due)]:
            before[request.resident] += request.forward_rows_left
        return forecast.idle_seconds + sum(resident.seconds(left) for resident, left in before.items())

    def add(self, request: Request) -> None:
        """Take a request in; of those that are due at the same time the newest is the last."""
        insort(self.requests, request, key=_due)
        self.rows += len(request.unfinished)
        self.open[request.resident] += 1
        self.forward_rows_left[request.resident] += request.forward_rows_left

    def pick(self) -> list[Row]:
        """The rows of the next step: of the model version whose request is most urgent, and all in one phase."""
        if not self.requests:
            return []
        resident = self.requests[0].resident
        mine = [request for request in self.requests if request.resident is resident]
        rows = pick_rows(mine, resident.speed, resident.batch_limit)
        return [row for row in rows if type(row.phase) is type(rows[0].phase)]

    def begin(self, rows: Sequence[Row], now: float) -> list[Row]:
        """Note that these rows take a step now; returns those for which it is the first."""
        fresh = [row for row in rows if not row.begun]
        for row in fresh:
            row.begun = True
            if row.request.begun is None:
                row.request.begun = now
        self.running += len(fresh)
        return fresh

    def advanced(self, row: Row, forward_rows: int) -> None:
        """Note a step that is done. forward_rows: what it took."""
        row.request.done_steps += 1
        self._work_done(row.request, forward_rows)

    def finished(self, row: Row) -> None:
        """Take a row out."""
        row.request.unfinished.remove(row)
        self.rows -= 1
        self.running -= 1

    def end(self, request: Request, event: Finished | Failed) -> None:
        """Take a request out, with the rows that it still has, and send its last event; nothing when it has ended."""
        if request.ended:
            return
        request.ended = True
        self.requests.remove(request)
        self.rows -= len(request.unfinished)
        self.running -= sum(row.begun for row in request.unfinished)
        self._work_done(request, request.forward_rows_left)
        self.open[request.resident] -= 1
        if not self.open[request.resident]:
            del self.open[request.resident], self.forward_rows_left[request.resident]
        self._observer.request_ended("finished" if isinstance(event, Finished) else event.reason)
        request.sink(event)

    def _work_done(self, request: Request, forward_rows: int) -> None:
        request.forward_rows_left -= forward_rows
        self.forward_rows_left[request.resident] -= forward_rows
