"""The requests that the engine holds, and their rows.

The queue keeps its counts at every change, so that no caller walks the rows to count them or the work that is left.
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
    """One image on its way through the engine. begun: its first step has started."""

    request: "Request"
    phase: Phase
    begun: bool = False

    @property
    def network_rows(self) -> int:
        """Network rows of its next step."""
        return self.phase.network_rows


class Request:
    """An accepted request. It leaves the engine with its one Finished or Failed event.

    submitted, due, deadline, begun: on the engine's clock. context: of the thread that submitted it, so that log lines
    name the right one of the requests in a batch.
    """

    def __init__(self, resident: Resident, sink: Sink, forecast: Forecast, work: Work, phases: Sequence[Phase]) -> None:
        self.resident = resident
        self.sink = sink
        self.submitted = forecast.now
        self.due = forecast.due
        self.deadline = forecast.deadline
        self.idle_seconds = forecast.idle_seconds
        self.unfinished = [Row(self, phase) for phase in phases]
        self.network_rows_left = work.network_rows
        self.total_steps = sum(phase.steps_left for phase in phases)
        self.done_steps = 0
        self.begun: float | None = None
        self.cancelled = False
        self.ended = False
        self.context = copy_context()


def _due(request: Request) -> float:
    return request.due


class Queue:
    """The accepted requests, ordered by the time when they are due. Every caller holds the engine's lock.

    limit: most unfinished rows. rows: unfinished rows; running: unfinished rows that have begun. open: number of
    requests by version. network_rows_left: network rows that are left, by version.
    """

    def __init__(self, limit: int, observer: EngineObserver) -> None:
        self.limit = limit
        self._observer = observer
        self.requests: list[Request] = []
        self.rows = 0
        self.running = 0
        self.open: Counter[Resident] = Counter()
        self.network_rows_left: Counter[Resident] = Counter()

    def require_room(self, rows: int) -> None:
        """Raise TooManyRows or QueueFull if `rows` more rows do not fit."""
        if rows > self.limit:
            raise TooManyRows(rows, self.limit)
        surplus = self.rows + rows - self.limit
        if surplus > 0:
            backlog = sum(resident.seconds(left) for resident, left in self.network_rows_left.items())
            raise QueueFull(rows, self.rows, self.limit, backlog * surplus / self.rows)

    def admit(self, now: float, resident: Resident, work: Work, deadline_seconds: float | None) -> Forecast:
        """Return the forecast for work that is accepted now. Raises TooManyRows, QueueFull or DeadlineUnmeetable."""
        self.require_room(work.rows)
        forecast = foresee(now, resident, work, deadline_seconds)
        if deadline_seconds is not None:
            expected = self.expected_seconds(forecast)
            if expected > deadline_seconds:
                raise DeadlineUnmeetable(deadline_seconds, expected, forecast.idle_seconds)
        return forecast

    def expected_seconds(self, forecast: Forecast) -> float:
        """Return the forecast's time on an idle engine, plus the time of all queued work that is not due later."""
        before: Counter[Resident] = Counter()
        for request in self.requests[: bisect_right(self.requests, forecast.due, key=_due)]:
            before[request.resident] += request.network_rows_left
        return forecast.idle_seconds + sum(resident.seconds(left) for resident, left in before.items())

    def add(self, request: Request) -> None:
        """Add a request, behind those that are due at the same time."""
        insort(self.requests, request, key=_due)
        self.rows += len(request.unfinished)
        self.open[request.resident] += 1
        self.network_rows_left[request.resident] += request.network_rows_left

    def pick(self) -> list[Row]:
        """Return the rows of the next step: all in one phase, and of the version whose request is due first."""
        if not self.requests:
            return []
        resident = self.requests[0].resident
        mine = [request for request in self.requests if request.resident is resident]
        rows = pick_rows(mine, resident.speed, resident.batch_limit)
        return [row for row in rows if type(row.phase) is type(rows[0].phase)]

    def begin(self, rows: Sequence[Row], now: float) -> list[Row]:
        """Note that these rows take a step now. Returns those that take their first step."""
        fresh = [row for row in rows if not row.begun]
        for row in fresh:
            row.begun = True
            if row.request.begun is None:
                row.request.begun = now
        self.running += len(fresh)
        return fresh

    def advanced(self, row: Row, network_rows: int) -> None:
        """Note that a row has taken a step. network_rows: network rows of this step."""
        row.request.done_steps += 1
        self._work_done(row.request, network_rows)

    def finished(self, row: Row) -> None:
        """Remove a finished row."""
        row.request.unfinished.remove(row)
        self.rows -= 1
        self.running -= 1

    def end(self, request: Request, event: Finished | Failed) -> None:
        """Remove a request with its unfinished rows, and send its last event. Do nothing if it has ended."""
        if request.ended:
            return
        request.ended = True
        self.requests.remove(request)
        self.rows -= len(request.unfinished)
        self.running -= sum(row.begun for row in request.unfinished)
        self._work_done(request, request.network_rows_left)
        self.open[request.resident] -= 1
        if not self.open[request.resident]:
            del self.open[request.resident], self.network_rows_left[request.resident]
        self._observer.request_ended("finished" if isinstance(event, Finished) else event.reason)
        request.sink(event)

    def _work_done(self, request: Request, network_rows: int) -> None:
        request.network_rows_left -= network_rows
        self.network_rows_left[request.resident] -= network_rows
