"""How long rows will take, by the measured speed: known from their settings, before any row is planned."""

from dataclasses import dataclass
from itertools import groupby

from app.engine.policy import due_time
from app.engine.request import SampleRequest
from app.engine.residents import Resident
from model.config import SamplingConfig, ScheduleConfig
from model.guidance import forward_rows_left
from model.metrics.frontier import network_evaluations
from model.scoring import SCORE_FORWARD_ROWS, SCORE_STEPS


@dataclass(frozen=True)
class Work:
    """What images cost. forward_rows: of all images together; steps: of the longest one."""

    images: int
    forward_rows: int
    steps: int

    @classmethod
    def of_settings(cls, schedule: ScheduleConfig, sampling: SamplingConfig, images: int, *, scored: bool) -> "Work":
        """Of images that have a class and the same settings. Raises ValueError for steps that there are not."""
        return cls._of(network_evaluations(schedule, sampling), sampling, images, scored=scored)

    @classmethod
    def of_request(cls, schedule: ScheduleConfig, request: SampleRequest) -> "Work":
        """Of all rows. Raises ValueError for none, and for steps that there are not."""
        if not request.rows:
            raise ValueError("a request needs at least one row")
        parts = []
        for _, alike in groupby(request.rows, key=lambda row: (id(row.sampling), row.class_index is None)):
            first, *others = alike
            cost = network_evaluations(schedule, first.sampling)
            if first.class_index is None and first.sampling.guide == "unconditional":  # nothing to be guided from
                cost = forward_rows_left(schedule, first.sampling, 1.0)[0]
            parts.append(cls._of(cost, first.sampling, 1 + len(others), scored=request.scored))
        return cls(
            sum(part.images for part in parts),
            sum(part.forward_rows for part in parts),
            max(part.steps for part in parts),
        )

    @classmethod
    def _of(cls, cost: int, sampling: SamplingConfig, images: int, *, scored: bool) -> "Work":
        more = SCORE_STEPS if scored else 0
        return cls(images, images * (cost + more * SCORE_FORWARD_ROWS), sampling.steps + more)


@dataclass(frozen=True)
class Forecast:
    """What is foreseen for a request. now, deadline, due: on the engine's clock; idle_seconds: on an idle engine."""

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
