"""Picks the rows that take the next step.

1. The request with the least work left comes first: a short one never waits for a long one. The work of the owner's
   shorter requests counts too, so that an owner with a thousand requests is no faster than others.
2. A third of the network rows goes to the oldest requests. So nobody waits longer than the work that was accepted
   earlier takes at a third of the speed, whatever comes later.
3. A request with a deadline comes first, earliest deadline first, once it could be late otherwise. Its step is then no
   larger than the deadline allows.
4. Steps are full as long as there are rows. The rows of a step are of one version and one phase. When the oldest
   request is of another, it gets steps of its own, a third of all.
5. Rows of one request run in their order, so that its first images are finished early. Those of an urgent request run
   side by side, so that its last image is not late.
"""

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from darkroom.app.engine.speed import SpeedCurve

OLDEST_SHARE = 1.0 / 3.0
OTHERS_SHARE = 1.0 - OLDEST_SHARE
MARGIN_STEPS = 2.0
"""Full steps by which a request with a deadline starts earlier than it must."""


class SchedulableRow(Protocol):
    """The part of a row that the policy uses."""

    @property
    def network_rows(self) -> int:
        """Network rows of its next step: 1, or 2 when guided."""

    @property
    def steps_left(self) -> int:
        """Its steps that are left."""

    @property
    def lane(self) -> Hashable:
        """Rows can share a step when their lanes are equal: version and phase."""


Row = TypeVar("Row", bound=SchedulableRow)
RowOut = TypeVar("RowOut", bound=SchedulableRow, covariant=True)


class SchedulableRequest(Protocol[RowOut]):
    """The part of a request that the policy uses."""

    @property
    def owner(self) -> int | None:
        """The API key's identity; None for the one user of an open service."""

    @property
    def deadline(self) -> float | None:
        """The client's deadline, on the engine's clock."""

    @property
    def seconds_left(self) -> float:
        """Time of its work that is left, in full batches."""

    @property
    def steps_left(self) -> int:
        """Steps of its longest row that are left."""

    @property
    def unfinished(self) -> Sequence[RowOut]:
        """Its unfinished rows, in their order."""

    @property
    def speed(self) -> SpeedCurve:
        """The speed of its version."""

    @property
    def batch_limit(self) -> int:
        """The most network rows of a step of its version."""


Scheduled = TypeVar("Scheduled", bound=SchedulableRequest[SchedulableRow])


class Policy(Generic[Row]):
    """Picks rows step by step. It remembers how many network rows it owes to the oldest requests."""

    def __init__(self) -> None:
        self._owed = 0.0

    def pick(self, requests: Sequence[SchedulableRequest[Row]], now: float) -> list[Row]:
        """Return the rows of the next step: at least one row, and at most `batch_limit` network rows.

        One guided row takes two network rows, also where the limit is 1.
        requests: oldest first, not empty, each with an unfinished row. now: on the engine's clock.
        """
        late = urgent(requests, now)
        order = _Order(late, requests)
        oldest, first = requests[0], order.first
        lane = oldest.unfinished[0].lane
        if first.unfinished[0].lane != lane and self._owed >= oldest.batch_limit:
            first, late = oldest, []
        head = first.unfinished[0]
        limit = max(_limit_for(late, head.lane, first.batch_limit, now), head.network_rows)
        picked: dict[Row, None] = {}
        given = 0
        if head.lane == lane:
            given = _fill(picked, (one.unfinished for one in requests), lane, min(limit, int(self._owed)))
        taken = _fill(picked, order.rows(), head.lane, limit, given)
        self._owed = min(self._owed + OLDEST_SHARE * taken - given, float(oldest.batch_limit + head.network_rows))
        return list(picked)


def urgent(requests: Iterable[SchedulableRequest[Row]], now: float) -> list[SchedulableRequest[Row]]:
    """Return the requests with a deadline that must run now, earliest deadline first.

    A request's latest start leaves time for its own steps, and for the work of the requests that come after it.
    """
    waiting = with_deadlines(requests)
    start = float("inf")
    for index in reversed(range(len(waiting))):
        one = waiting[index]
        start = min(start - one.seconds_left / OTHERS_SHARE, deadline_of(one) - own_seconds(one) / OTHERS_SHARE)
        if now + MARGIN_STEPS * one.speed.seconds(one.batch_limit) >= start:
            return waiting[: index + 1]
    return []


def with_deadlines(requests: Iterable[Scheduled]) -> list[Scheduled]:
    """Return the requests that have a deadline, earliest first."""
    return sorted((one for one in requests if one.deadline is not None), key=deadline_of)


def own_seconds(request: SchedulableRequest[Row]) -> float:
    """Return the time that the rest of a request takes when it has the engine for itself."""
    rows = sum(row.network_rows for row in request.unfinished)
    return request.speed.seconds_alone(rows, request.steps_left, request.batch_limit)


def deadline_of(request: SchedulableRequest[Row]) -> float:
    """Return the deadline of a request that has one."""
    assert request.deadline is not None
    return request.deadline


class _Order(Generic[Row]):
    """The requests in the order of the policy. It sorts those of one owner, and merges owners as far as it is read."""

    def __init__(self, late: Sequence[SchedulableRequest[Row]], requests: Sequence[SchedulableRequest[Row]]) -> None:
        self._late = late
        self._by_owner = defaultdict[int | None, list[SchedulableRequest[Row]]](list)
        for request in requests:
            self._by_owner[request.owner].append(request)
        for owned in self._by_owner.values():
            owned.sort(key=attrgetter("seconds_left"))

    @property
    def first(self) -> SchedulableRequest[Row]:
        """The request that goes first."""
        return self._late[0] if self._late else next(self._shortest_first())

    def rows(self) -> Iterator[Sequence[Row]]:
        """Yield the rows of every request; those of urgent ones come twice."""
        for request in self._late:
            yield sorted(request.unfinished, key=attrgetter("steps_left"), reverse=True)
        for request in self._shortest_first():
            yield request.unfinished

    def _shortest_first(self) -> Iterator[SchedulableRequest[Row]]:
        heads = [(owned[0].seconds_left, place, 0, owned) for place, owned in enumerate(self._by_owner.values())]
        heapq.heapify(heads)
        while heads:
            work, place, index, owned = heads[0]
            yield owned[index]
            if index + 1 < len(owned):
                heapq.heapreplace(heads, (work + owned[index + 1].seconds_left, place, index + 1, owned))
            else:
                heapq.heappop(heads)


def _limit_for(late: Iterable[SchedulableRequest[Row]], lane: Hashable, limit: int, now: float) -> int:
    """Return the largest step with which the urgent requests of the lane still meet their deadlines."""
    rows = 0
    for request in late:
        mine = [row for row in request.unfinished if row.lane == lane]
        rows += sum(row.network_rows for row in mine)
        if mine and rows < limit:
            pace = (deadline_of(request) - now) / max(1, request.steps_left)
            limit = min(limit, request.speed.largest_within(pace, rows))
    return limit


def _fill(
    picked: dict[Row, None],
    rows_of_requests: Iterable[Sequence[Row]],
    lane: Hashable,
    limit: int,
    taken: int = 0,
) -> int:
    """Add rows of the lane up to `limit` network rows, of which `taken` are in use; returns how many are then."""
    for rows in rows_of_requests:
        for row in rows:
            if row in picked or row.lane != lane:
                continue
            if taken + row.network_rows > limit:
                return taken
            picked[row] = None
            taken += row.network_rows
    return taken
