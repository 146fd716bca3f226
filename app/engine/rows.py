"""The requests that the engine has accepted, and their rows."""

from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass

from darkroom.app.engine.forecast import Forecast, Work
from darkroom.app.engine.phases import Phase
from darkroom.app.engine.request import Sink
from darkroom.app.engine.residents import Resident
from darkroom.app.engine.speed import SpeedCurve


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

    @property
    def steps_left(self) -> int:
        """Its steps that are left, including those of a later phase."""
        return self.phase.steps_left

    @property
    def lane(self) -> tuple[Resident, type[Phase]]:
        """Version and phase: rows of one lane can share a step."""
        return self.request.resident, type(self.phase)


class Request:
    """An accepted request. It leaves the engine with its one Finished or Failed event.

    submitted, deadline, begun: on the engine's clock. seconds_left: time of its work that is left, in full batches.
    idle_seconds: its time on an idle engine. owner: see SampleRequest. context: of the thread that submitted it, so
    that log lines name the right one of the requests in a batch.
    """

    def __init__(
        self,
        resident: Resident,
        sink: Sink,
        forecast: Forecast,
        work: Work,
        phases: Sequence[Phase],
        owner: int | None = None,
    ) -> None:
        self.resident = resident
        self.sink = sink
        self.owner = owner
        self.submitted = forecast.now
        self.deadline = forecast.deadline
        self.seconds_left = forecast.seconds
        self.idle_seconds = forecast.idle_seconds
        self.unfinished = [Row(self, phase) for phase in phases]
        self.network_rows_left = work.network_rows
        self.total_steps = sum(phase.steps_left for phase in phases)
        self.done_steps = 0
        self.begun: float | None = None
        self.cancelled = False
        self.ended = False
        self.context = copy_context()

    @property
    def steps_left(self) -> int:
        """Steps of its longest row that are left."""
        return max((row.steps_left for row in self.unfinished), default=0)

    @property
    def speed(self) -> SpeedCurve:
        """The speed of its version."""
        return self.resident.speed

    @property
    def batch_limit(self) -> int:
        """The most network rows of a step of its version."""
        return self.resident.batch_limit
