"""Picks the rows that take the next step: earliest deadline first, and every request has a deadline.

A request that names no deadline gets one: PATIENCE times its duration on an idle engine. So a short request overtakes
a long one that has just begun. The deadline of the long one comes nearer, while those of newcomers are always later,
so no request waits for ever. Rows of one request run in their order, so that its first images are finished early.

A full batch is best for throughput, but it is slow for a short request that shares it with a long one. So rows of
much longer requests join only while the step stays within COMPANY times its duration without them.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from darkroom.app.engine.speed import SpeedCurve

PATIENCE = 3.0
COMPANY = 1.5
MUCH_LONGER = 4.0


class SchedulableRow(Protocol):
    """The part of a row that the policy uses."""

    @property
    def network_rows(self) -> int:
        """Network rows of its next step: 1, or 2 when guided."""


Row = TypeVar("Row", bound=SchedulableRow)
RowOut = TypeVar("RowOut", bound=SchedulableRow, covariant=True)


class SchedulableRequest(Protocol[RowOut]):
    """The part of a request that the policy uses."""

    @property
    def due(self) -> float:
        """The time by which it should be finished, on the engine's clock."""

    @property
    def idle_seconds(self) -> float:
        """Its duration from start to end on an idle engine."""

    @property
    def unfinished(self) -> Sequence[RowOut]:
        """Its unfinished rows, in their order."""


def due_time(now: float, idle_seconds: float, deadline: float | None) -> float:
    """Return the deadline to schedule by: PATIENCE times the idle duration, or the request's own if it is earlier."""
    due = now + PATIENCE * idle_seconds
    return due if deadline is None else min(due, deadline)


def pick_rows(requests: Sequence[SchedulableRequest[Row]], speed: SpeedCurve, limit: int) -> list[Row]:
    """Return the rows of the next step: at least one row, and at most `limit` network rows.

    One guided row takes two network rows, also where `limit` is 1. requests: not empty, each with an unfinished row.
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
            if picked and taken + row.network_rows > limit:
                return taken
            picked.append(row)
            taken += row.network_rows
    return taken
