"""Picks the rows that take the next step.

1. The request with the least work left comes first: a short one never waits for a long one. The work of the owner's
   shorter requests counts too, so that an owner with a thousand requests is no faster than others.
2. A third of the time goes to the oldest requests. So nobody waits longer than the work that was accepted earlier takes
   at a third of the speed, whatever comes later.
3. A request with a deadline comes first, earliest deadline first, once it could be late otherwise. Its step is then no
   larger than the deadline allows.
4. The next request joins a step if that saves the others more time than it costs those in the step. So a short request
   runs alone beside one or two long ones, and steps are full when many wait, or when one is urgent. The rows of a step
   are of one version and one phase. The oldest request gets its third in steps of its own when it is of another, or
   when the steps are not full.
5. Rows of one request run in their order, so that its first images are finished early. Those of an urgent request run
   side by side, so that its last image is not late.

However long the longer requests are, one without key and deadline ends within K times its idle time:

K = (F (M + 1) + 3 S) / (2/3 - R)

F: the time of its work in full batches and of as many full steps as it has. S: the longest full step of all versions.
Both are in multiples of its idle time. M: number of the requests that it meets. R: the share of the time, below 2/3,
that is needed by later ones which come before it. These have a deadline or no more work. What they need above this
share for a while counts in M by its time. So does a request that it meets, if it has a deadline and more work.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from operator import attrgetter

from darkroom.app.engine.residents import Resident
from darkroom.app.engine.rows import Request, Row

OLDEST_SHARE = 1.0 / 3.0
OTHERS_SHARE = 1.0 - OLDEST_SHARE
MARGIN_STEPS = 4.0
"""Full steps, of the slowest version, by which a request with a deadline starts earlier than it must.

One may be under way, and one may be owed to the oldest request. Two more are for rows that do not fit a step. In a
simulation of 6,200 deadlines as tight as admission takes them, a margin of 2 left 9 late by up to two steps. With 4,
none was late by 1 ms.
"""


_Place = tuple[float, int, Request]
"""Work that is left, number of arrival and request: its place among its owner's."""


class Policy:
    """Holds the requests, and picks rows step by step. It remembers how many seconds it owes to the oldest.

    It keeps the requests in order at every change, so that a step costs the same behind two requests or two thousand.
    open: number of requests by version.
    """

    def __init__(self) -> None:
        self.open: Counter[Resident] = Counter()
        self._owed = 0.0
        self._arrivals = count()
        self._places: dict[Request, _Place] = {}
        self._by_owner: dict[int | None, list[_Place]] = {}
        self._promised: list[Request] = []
        self._advanced: list[Request] = []
        self._nobody_late_before = -math.inf

    @property
    def requests(self) -> Collection[Request]:
        """All requests, oldest first."""
        return self._places

    @property
    def promised(self) -> Sequence[Request]:
        """The requests with a deadline, earliest deadline first."""
        return self._promised

    @property
    def slowest_step(self) -> float:
        """Seconds of the longest full step of a version that has a request."""
        return max((resident.full_step for resident in self.open), default=0.0)

    def add(self, request: Request) -> None:
        """Add a request with an unfinished row."""
        self._place(request, next(self._arrivals))
        if request.deadline is not None:
            insort(self._promised, request, key=deadline_of)
        if request.deadline is not None or request.resident not in self.open:
            self._nobody_late_before = -math.inf
        self.open[request.resident] += 1

    def remove(self, request: Request) -> None:
        """Remove a request."""
        self._displace(self._places.pop(request))
        self.open[request.resident] -= 1
        if not self.open[request.resident]:
            del self.open[request.resident]
        if request.deadline is not None:
            self._promised.remove(request)

    def pick(self, now: float) -> list[Row]:
        """Return the rows of the next step: at least one row, and at most `batch_limit` network rows.

        One guided row takes two network rows, also where the limit is 1. There must be a request, and each must have an
        unfinished row. now: on the engine's clock.
        """
        for request in self._advanced:  # only these have less work left than before
            if (place := self._places.get(request)) is not None:
                self._displace(place)
                self._place(request, place[1])
        late = self._late(now)
        oldest = next(iter(self._places))
        first = next(iter(late), None) or next(self.in_order())
        lane = oldest.unfinished[0].lane
        if first.unfinished[0].lane != lane and self._owed >= oldest.resident.full_step:
            first, late = oldest, {}
        head = _rows_of(first, late)[0]
        share = 1.0 if head.lane == lane else OTHERS_SHARE
        limit = _limit_for(late, head.lane, first.batch_limit, now, share)
        filled = late or self._owed >= oldest.resident.full_step
        rows = max(limit if filled else self._rows_worth_a_step(first.resident, head.lane), head.network_rows)
        picked: dict[Row, None] = {}
        given = 0
        if head.lane == lane and rows >= limit:
            owed = min(rows, int(self._owed / oldest.resident.seconds(1)))
            if late:  # what is owed must not fill a small step, or many of them
                row = head.network_rows
                owed = min(owed, int(OLDEST_SHARE * rows) + row, rows - row)
            given = _fill(picked, (_rows_of(one, late) for one in self._places), lane, owed)
        taken = _fill(picked, self._rows_in_order(late), head.lane, rows, given)
        given = max(given, sum(row.network_rows for row in picked if row.request is oldest))
        gained = (OLDEST_SHARE - given / taken) * first.speed.seconds(taken)
        most = self.slowest_step + oldest.resident.seconds(head.network_rows)
        self._owed = min(max(self._owed + gained, 0.0), most)
        self._advanced = list(dict.fromkeys(row.request for row in picked))
        return list(picked)

    def _rows_worth_a_step(self, resident: Resident, lane: Hashable) -> int:
        limit = resident.batch_limit
        if len(self._places) == 1:
            return limit
        widths = (
            rows_up_to(limit, (row for row in request.unfinished if row.lane == lane)) for request in self.in_order()
        )
        return rows_worth_a_step(resident, filter(None, widths), len(self._places))

    def _late(self, now: float) -> dict[Request, float]:
        """Return the urgent requests and their latest ends.

        It looks again after half of the time to spare, because the speed may change.
        """
        if now < self._nobody_late_before:
            return {}
        late, spare = urgent(self._promised, now, MARGIN_STEPS * self.slowest_step)
        self._nobody_late_before = now + spare / 2.0
        return late

    def _place(self, request: Request, arrival: int) -> None:
        place = self._places[request] = (request.seconds_left, arrival, request)
        insort(self._by_owner.setdefault(request.owner, []), place)

    def _displace(self, place: _Place) -> None:
        owned = self._by_owner[place[2].owner]
        del owned[bisect_left(owned, place)]
        if not owned:
            del self._by_owner[place[2].owner]

    def _rows_in_order(self, late: Collection[Request]) -> Iterator[Sequence[Row]]:
        """Yield the rows of every request in the order of the policy; those of urgent ones come twice."""
        for request in late:
            yield _rows_of(request, late)
        for request in self.in_order():
            yield request.unfinished

    def in_order(self) -> Iterator[Request]:
        """Merge the owners' requests, shortest first. Each waits for the work of its owner's shorter ones too."""
        heads = [(*owned[0][:2], 0, owned) for owned in self._by_owner.values()]
        heapq.heapify(heads)
        while heads:
            work, arrival, index, owned = heads[0]
            yield owned[index][2]
            if index + 1 < len(owned):
                seconds, arrival, _ = owned[index + 1]
                heapq.heapreplace(heads, (work + seconds, arrival, index + 1, owned))
            else:
                heapq.heappop(heads)


def urgent(promised: Sequence[Request], now: float, margin: float) -> tuple[dict[Request, float], float]:
    """Return the requests that must run now with their latest ends, and the seconds until the first must.

    promised: earliest deadline first; margin: seconds by which each starts earlier than it must. A request's latest end
    leaves time for the work of those that come after it, and its latest start for its own steps.
    """
    start = spare = math.inf
    ends: dict[Request, float] = {}
    for one in reversed(promised):
        end = min(start, deadline_of(one))
        start = end - own_seconds(one) / OTHERS_SHARE
        due = start - margin - now
        spare = min(spare, due)
        if due <= 0.0 or ends:
            ends[one] = end
    return dict(reversed(ends.items())), max(spare, 0.0)


def own_seconds(request: Request) -> float:
    """Return the time that the rest of a request takes when it has the engine for itself, its rows side by side."""
    steps = request.steps_left
    rows = request.network_rows_left / steps if steps else 0.0
    return request.speed.seconds_alone(rows, steps, request.batch_limit)


def deadline_of(request: Request) -> float:
    """Return the deadline of a request that has one."""
    assert request.deadline is not None
    return request.deadline


def rows_worth_a_step(resident: Resident, widths: Iterable[int], requests: int) -> int:
    """Return the network rows of a step of the shortest requests, which end sooner in a smaller step.

    The next request joins if that saves the others more time than it costs those in the step. Apart from it, the same
    rows take their part of a step of the request's own, for which all others wait.

    widths: network rows of the requests of one lane, in order, at most the limit each; requests: number of all.
    """
    speed, limit = resident.speed, resident.batch_limit
    taken = 0
    for members, width in enumerate(widths):
        joining = min(width, limit - taken)
        longer = speed.seconds(taken + joining) - speed.seconds(taken)
        saved = joining / width * speed.seconds(width) - longer
        if members and members * longer > (requests - members) * saved:
            return taken
        taken += joining
        if taken == limit:
            break
    return limit


def rows_up_to(limit: int, rows: Iterable[Row]) -> int:
    """Return the network rows of a step of these rows, at most `limit`."""
    found = 0
    for row in rows:
        found += row.network_rows
        if found >= limit:
            return limit
    return found


def _rows_of(request: Request, late: Collection[Request]) -> Sequence[Row]:
    """Return the rows of a request in the order in which they run."""
    if request not in late:
        return request.unfinished
    return sorted(request.unfinished, key=attrgetter("steps_left"), reverse=True)


def _limit_for(late: Mapping[Request, float], lane: Hashable, limit: int, now: float, share: float) -> int:
    """Return the largest step with which the urgent requests of the lane end in time.

    late: with their latest ends; share: of the time that the lane's steps get.
    """
    rows = 0
    for request, end in late.items():
        mine = [row for row in request.unfinished if row.lane == lane]
        rows += sum(row.network_rows for row in mine)
        if mine and rows < limit:
            pace = share * (end - now) / max(1, request.steps_left)
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
