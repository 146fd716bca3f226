"""How long rows will take, by the measured speed: known from their settings, before any row is planned."""

from collections.abc import Sequence
from dataclasses import dataclass

from darkroom.app.engine.phases import Phase
from darkroom.app.engine.policy import due_time
from darkroom.app.engine.residents import Resident
from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.metrics.frontier import network_evaluations
from darkroom.model.sampling.scoring import SCORE_FORWARD_ROWS, SCORE_STEPS


@dataclass(frozen=True)
class Work:
    """What rows cost. forward_rows: of the network's batch, for all rows together; steps: of the longest row."""

    rows: int
    forward_rows: int
    steps: int

    @classmethod
    def of_settings(cls, schedule: ScheduleConfig, sampling: SamplingConfig, rows: int, *, scored: bool) -> "Work":
        """Of rows that have a class and the same settings. Raises ValueError for steps that there are not."""
        more = SCORE_STEPS if scored else 0
        forward_rows = network_evaluations(schedule, sampling) + more * SCORE_FORWARD_ROWS
        return cls(rows, rows * forward_rows, sampling.steps + more)

    @classmethod
    def of_phases(cls, rows: Sequence[Phase]) -> "Work":
        """Of rows that are planned."""
        return cls(len(rows), sum(row.forward_rows_left for row in rows), max(row.steps_left for row in rows))


@dataclass(frozen=True)
class Forecast:
    """The forecast for a request. now, deadline, due: on the engine's clock; idle_seconds: on an idle engine."""

    now: float
    idle_seconds: float
    deadline: float | None
    due: float


def foresee(now: float, resident: Resident, work: Work, deadline_seconds: float | None) -> Forecast:
    """The forecast for work that arrives now."""
    idle = _idle_seconds(resident, work)
    deadline = None if deadline_seconds is None else now + deadline_seconds
    return Forecast(now, idle, deadline, due_time(now, idle, deadline))


def _idle_seconds(resident: Resident, work: Work) -> float:
    """Steps are counted at their mean width."""
    if work.forward_rows >= work.steps * resident.batch_limit:
        return resident.seconds(work.forward_rows)
    return work.steps * resident.speed.seconds(work.forward_rows / work.steps)
