"""Which rows take the next step: earliest deadline first, where everybody has a deadline.

A request that names no deadline gets one at PATIENCE times the time that it would take on an idle engine. So a short
request passes a long one that has just begun, the long one's deadline comes nearer while newcomers' are always later,
and no request waits for ever. Rows of one request run in their order, so its first images are finished early.

A full batch is best for throughput, but it is slow for a short request that shares it with a long one. Hence rows of
much longer requests join only while the step stays within COMPANY times its duration without them.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from darkroom.app.engine.speed import SpeedCurve

PATIENCE = 3.0
COMPANY = 1.5
MUCH_LONGER = 4.0


class SchedulableRow(Protocol):
    """What the policy has to know of a row."""

    @property
    def forward_rows(self) -> int:
        """Of its next step: 1, or 2 when guided."""


Row = TypeVar("Row", bound=SchedulableRow)
RowOut = TypeVar("RowOut", bound=SchedulableRow, covariant=True)


class SchedulableRequest(Protocol[RowOut]):
    """What the policy has to know of a request."""

    @property
    def due(self) -> float:
        """When it should be finished, on the engine's clock."""

    @property
    def idle_seconds(self) -> float:
        """What it would take, or take again from its start, on an idle engine."""

    @property
    def unfinished(self) -> Sequence[RowOut]:
        """Its rows that are not finished, in their order."""


def due_time(now: float, idle_seconds: float, deadline: float | None) -> float:
    """The deadline to schedule by: PATIENCE times the idle duration, or the request's own if that is earlier."""
    due = now + PATIENCE * idle_seconds
    return due if deadline is None else min(due, deadline)


def pick_rows(requests: Sequence[SchedulableRequest[Row]], speed: SpeedCurve, limit: int) -> list[Row]:
    """The rows of the next step: at least one, and at most `limit` forward rows (a single guided row may pass 1).

    requests: not empty, each with an unfinished row.
    """
    by_due = sorted(requests, key=lambda request: request.due)
    head = by_due[0]
    alike = [request for request in by_due if request.idle_seconds <= MUCH_LONGER * head.idle_seconds]
    longer = [request for request in by_due if request.idle_seconds > MUCH_LONGER * head.idle_seconds]
    picked: list[Row] = []
    taken = _fill(picked, alike, 0, limit)
    if longer and taken < limit:
        _fill(picked, longer, taken, min(limit, speed.largest_within(COMPANY * speed.seconds(taken), taken)))
    return picked


def _fill(picked: list[Row], requests: Sequence[SchedulableRequest[Row]], taken: int, limit: int) -> int:
    for request in requests:
        for row in request.unfinished:
            if picked and taken + row.forward_rows > limit:
                return taken
            picked.append(row)
            taken += row.forward_rows
    return taken
