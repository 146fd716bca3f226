"""Forecasts how long rows will take, from the measured speed and their settings, before any row is planned."""

from collections.abc import Sequence
from dataclasses import dataclass

from darkroom.app.engine.phases import Phase
from darkroom.app.engine.residents import Resident
from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.metrics.frontier import network_evaluations
from darkroom.model.sampling.scoring import SCORE_NETWORK_ROWS, SCORE_STEPS


@dataclass(frozen=True)
class Work:
    """The cost of rows. network_rows: network rows of all rows and steps together; steps: of the longest row."""

    rows: int
    network_rows: int
    steps: int

    @classmethod
    def of_settings(cls, schedule: ScheduleConfig, sampling: SamplingConfig, rows: int, *, scored: bool) -> "Work":
        """Return the cost of rows that have a class and the same settings.

        Raises ValueError for steps that the schedule does not have.
        """
        more = SCORE_STEPS if scored else 0
        network_rows = network_evaluations(schedule, sampling) + more * SCORE_NETWORK_ROWS
        return cls(rows, rows * network_rows, sampling.steps + more)

    @classmethod
    def of_phases(cls, rows: Sequence[Phase]) -> "Work":
        """Return the cost of planned rows."""
        return cls(len(rows), sum(row.network_rows_left for row in rows), max(row.steps_left for row in rows))


@dataclass(frozen=True)
class Forecast:
    """What a request needs. now, deadline: on the engine's clock; seconds: its work in full batches.

    steps: of its longest row. idle_seconds: its time on an idle engine.
    """

    resident: Resident
    now: float
    deadline: float | None
    seconds: float
    steps: int
    idle_seconds: float


def foresee(now: float, resident: Resident, work: Work, deadline_seconds: float | None) -> Forecast:
    """Return the forecast for work that arrives now."""
    deadline = None if deadline_seconds is None else now + deadline_seconds
    idle = resident.speed.seconds_alone(work.network_rows / work.steps, work.steps, resident.batch_limit)
    return Forecast(resident, now, deadline, resident.seconds(work.network_rows), work.steps, idle)
