"""The queue of accepted requests: admission, counts and forecasts. The policy has their order.

The queue keeps its counts at every change, so that no caller walks the rows to count them.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import attrgetter, itemgetter

from darkroom.app.engine.forecast import Forecast, Work, foresee
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.policy import (
    MARGIN_STEPS,
    OTHERS_SHARE,
    Policy,
    deadline_of,
    own_seconds,
    rows_up_to,
    rows_worth_a_step,
)
from darkroom.app.engine.request import DeadlineUnmeetable, Failed, Finished, QueueFull, QueueLong, TooManyRows
from darkroom.app.engine.residents import Resident
from darkroom.app.engine.rows import Request, Row

KEPT_FREE = 4
"""The queue takes requests while one place of so many is free: those of up to a quarter of the places alike."""

OF_LONGEST = 3.0
"""The queue holds so many times the time of its longest request, however long that is."""

ABOVE, ABOVE_SPEED = 0.25, 0.1
"""The part of the limit that short requests get above it, and how fast it becomes free, in seconds of work a second."""

PARTS = 64
"""Retry-After of a deadline that cannot be met is a number of parts of the time until the queue is empty."""


class Queue:
    """The accepted requests, oldest first. Every caller holds the engine's lock.

    limit: most unfinished rows; seconds: of work above which no request is accepted. rows: unfinished rows; running:
    unfinished rows that have begun. owned: unfinished rows by owner.
    """

    def __init__(self, limit: int, observer: EngineObserver, seconds: float = math.inf) -> None:
        self.limit = limit
        self.seconds = seconds
        self._observer = observer
        self.rows = 0
        self.running = 0
        self.owned: Counter[int | None] = Counter()
        self._policy = Policy()
        self._above = (0.0, 0.0)  # seconds of work that were taken above the limit, and when
        self._ends: list[tuple[float, int | None]] = []
        self._ended: dict[int | None, list[int]] = {}

    @property
    def requests(self) -> Collection[Request]:
        """All requests, oldest first."""
        return self._policy.requests

    @property
    def open(self) -> Counter[Resident]:
        """Number of requests by version."""
        return self._policy.open

    def require_room(self, rows: int, owner: int | None = None) -> None:
        """Raise TooManyRows or QueueFull if the queue does not take `rows` more rows.

        An owner gets at most half of the rows that others leave, so that there is always room for one more owner. When
        less than a quarter of the places is free, the queue takes no request, however small. Otherwise small ones would
        take each free place, and a large one would never find enough of them.
        """
        most = self.limit if owner is None else self.limit // 2
        if rows > most:
            raise TooManyRows(rows, most)
        held = self.rows if owner is None else self.owned[owner]
        if not self._takes(rows, held, self.rows - held, owner):
            wait = self._seconds_until_taken(rows, held, owner)
            raise QueueFull(rows, held, self._places(self.rows - held, owner), wait)

    def _require_short(self, now: float, seconds: float, owner: int | None) -> None:
        """Raise QueueLong if the owner's requests need more time than its part of the limit.

        Above the limit it takes requests that fit into a quarter of it, so that long requests keep nobody from sending
        short ones. What it takes there is forgotten at a tenth of the speed.
        """
        held, most, owners = self._work_of(owner)
        too_much = self._taken_above(now) + seconds - most * ABOVE
        if held >= most and too_much > 0.0:
            raise QueueLong(held, most, min(owners * (held - most), too_much / ABOVE_SPEED))

    def _work_of(self, owner: int | None) -> tuple[float, float, int]:
        """Return the seconds of the owner's work, its part of the limit, and the number of owners that share it."""
        held, longest, owners = 0.0, 0.0, {owner}
        for one in self.requests:
            owners.add(one.owner)
            longest = max(longest, one.idle_seconds)
            held += one.seconds_left if one.owner == owner else 0.0
        return held, max(self.seconds, OF_LONGEST * longest) / len(owners), len(owners)

    def _taken_above(self, now: float) -> float:
        seconds, then = self._above
        return max(0.0, seconds - ABOVE_SPEED * (now - then))

    def _places(self, others: int, owner: int | None) -> int:
        return self.limit if owner is None else (self.limit - others) // 2

    def _takes(self, rows: int, held: int, others: int, owner: int | None) -> bool:
        """Return whether an owner that holds `held` rows gets more, while others hold `others`."""
        places = self._places(others, owner)
        return held + max(rows, places // KEPT_FREE) <= places

    def _seconds_until_taken(self, rows: int, held: int, owner: int | None) -> float:
        """Return the time until the queue takes `rows` rows of the owner, if nothing else arrives."""
        if not self._ends:
            self._ends = _row_ends(self._policy.in_order(), len(self.requests))
        if owner not in self._ended:
            self._ended[owner] = list(accumulate((owner in (None, one) for _, one in self._ends), initial=0))
        own, others = self._ended[owner], self.rows - held

        def taken(ended: int) -> bool:
            return self._takes(rows, held - own[ended], others - (ended - own[ended]), owner)

        ended = bisect_left(range(len(self._ends)), True, key=taken)
        return self._ends[ended - 1][0] if self._ends else 0.0

    def _forget_ends(self) -> None:
        """Have the ends of rows computed anew when somebody asks for them."""
        self._ends = []
        self._ended.clear()

    def admit(
        self, now: float, resident: Resident, work: Work, deadline_seconds: float | None, owner: int | None = None
    ) -> Forecast:
        """Return the forecast for work that is accepted now.

        Raises TooManyRows, QueueFull, QueueLong or DeadlineUnmeetable.
        """
        self.require_room(work.rows, owner)
        forecast = foresee(now, resident, work, deadline_seconds)
        self._require_short(now, forecast.seconds, owner)
        if deadline_seconds is not None:
            expected = self.expected_seconds(forecast)
            if expected > deadline_seconds:
                raise DeadlineUnmeetable(
                    deadline_seconds, expected, self._seconds_until_in_time(forecast, deadline_seconds)
                )
        return forecast

    def _seconds_until_in_time(self, forecast: Forecast, deadline_seconds: float) -> float | None:
        """Return the time until the same deadline could be accepted, if nothing else arrives; None for never.

        Those with a deadline are taken to run in their order, beside the others.
        """
        if forecast.idle_seconds > deadline_seconds:
            return None
        margin = self._margin(forecast.resident)
        longest = max(self.requests, key=attrgetter("seconds_left"))
        total = max(sum(one.seconds_left for one in self.requests), own_seconds(longest))
        promised = [(deadline_of(one) - forecast.now, own_seconds(one)) for one in self._policy.promised]
        at_ease = sum(own_seconds(one) for one in self.requests if one.deadline is None)

        def in_time(part: int) -> bool:
            waited = part / PARTS * total
            done, ahead = OTHERS_SHARE * waited, list[tuple[float, float]]()
            for due, own in promised:
                ahead.append((due - waited, max(0.0, own - done)))
                done = max(0.0, done - own)
            left = (1.0 - part / PARTS) * at_ease
            return _at_most(forecast.idle_seconds, deadline_seconds, ahead, left, margin) <= deadline_seconds

        return total * bisect_left(range(PARTS), True, key=in_time) / PARTS

    def expected_seconds(self, forecast: Forecast) -> float:
        """Return the time that the policy will need for work that arrives now, if nothing else arrives.

        With a deadline: a time that also holds when more arrives. It is past the deadline if accepting the work would
        make another accepted deadline late.
        """
        if not self.requests:
            return forecast.idle_seconds
        if forecast.deadline is None:
            return self._in_order(forecast)
        ahead = [(deadline_of(one) - forecast.now, own_seconds(one)) for one in self._policy.promised]
        at_ease = self._at_ease(forecast.idle_seconds + sum(own for _, own in ahead))
        return _at_most(
            forecast.idle_seconds, forecast.deadline - forecast.now, ahead, at_ease, self._margin(forecast.resident)
        )

    def _margin(self, resident: Resident) -> float:
        """The time by which a request of this version with a deadline starts earlier than it must."""
        return MARGIN_STEPS * max(resident.full_step, self._policy.slowest_step)

    def _at_ease(self, most: float) -> float:
        """The time that the requests without a deadline take, one after another. It stops to add once it is `most`."""
        total = 0.0
        for one in self.requests:
            if total >= most:
                break
            total += own_seconds(one) if one.deadline is None else 0.0
        return total

    def _in_order(self, forecast: Forecast) -> float:
        """The time of a request without a deadline, which runs behind shorter ones."""
        before, behind = list[Request](), list[Request]()
        for one in self._policy.in_order():
            (before if one.seconds_left <= forecast.seconds else behind).append(one)
        own = _waves_of(forecast)
        waves = chain(_waves(before), own, _waves(behind))
        end = next(end for end, wave in _wave_ends(waves, len(self.requests) + 1) if wave is own[-1])
        return max(forecast.idle_seconds, _shared(end, sum(one.seconds_left for one in behind)))

    def add(self, request: Request) -> None:
        """Add a request."""
        self._forget_ends()
        held, most, _ = self._work_of(request.owner)
        if held >= most:
            self._above = (self._taken_above(request.submitted) + request.seconds_left, request.submitted)
        self._policy.add(request)
        self.rows += len(request.unfinished)
        self.owned[request.owner] += len(request.unfinished)

    def pick(self, now: float) -> list[Row]:
        """Return the rows of the next step; none when there is no request."""
        self._forget_ends()
        return self._policy.pick(now) if self.requests else []

    def begin(self, rows: Sequence[Row], now: float) -> list[Row]:
        """Note that these rows take a step now. Returns those that take their first step."""
        fresh = [row for row in rows if not row.begun]
        for row in fresh:
            row.begun = True
            if row.request.begun is None:
                row.request.begun = now
        self.running += len(fresh)
        return fresh

    def advanced(self, rows: Sequence[Row], widths: Sequence[int]) -> None:
        """Note that rows have taken a step. widths: the network rows of each in it."""
        for row, width in zip(rows, widths, strict=True):
            row.request.done_steps += 1
            row.request.network_rows_left -= width
        for request in {row.request for row in rows}:
            request.seconds_left = request.resident.seconds(request.network_rows_left)

    def finished(self, row: Row) -> None:
        """Remove a finished row."""
        row.request.unfinished.remove(row)
        self.rows -= 1
        self._give_back(row.request, 1)
        self.running -= 1

    def end(self, request: Request, event: Finished | Failed) -> None:
        """Remove a request with its unfinished rows, and send its last event. Do nothing if it has ended."""
        if request.ended:
            return
        request.ended = True
        self._policy.remove(request)
        self.rows -= len(request.unfinished)
        self._give_back(request, len(request.unfinished))
        self.running -= sum(row.begun for row in request.unfinished)
        self._observer.request_ended("finished" if isinstance(event, Finished) else event.reason)
        request.sink(event)

    def _give_back(self, request: Request, rows: int) -> None:
        self.owned[request.owner] -= rows
        if not self.owned[request.owner]:
            del self.owned[request.owner]


@dataclass(eq=False)
class _Wave:
    """Rows of a request that take their steps together. width: their network rows; steps: that are left.

    last: the request ends with it.
    """

    resident: Resident
    width: int
    steps: float
    rows: int
    owner: int | None
    last: bool


def _waves_of(forecast: Forecast) -> list[_Wave]:
    """Return the waves of work that is not planned yet."""
    resident, limit = forecast.resident, forecast.resident.batch_limit
    rows = max(1, round(forecast.seconds / forecast.steps / resident.seconds(1)))
    return [
        _Wave(resident, min(limit, rows - start), forecast.steps, 0, None, start + limit >= rows)
        for start in range(0, rows, limit)
    ]


def _waves(requests: Iterable[Request]) -> Iterator[_Wave]:
    """Yield the waves of requests, in their order. One whose last event is being sent has no row left, and no wave."""
    for request in requests:
        if not (rows := request.unfinished):
            continue
        each = max(1, request.batch_limit // rows[0].network_rows)
        for start in range(0, len(rows), each):
            wave = rows[start : start + each]
            steps = max(row.steps_left for row in wave)
            width = rows_up_to(request.batch_limit, wave)
            yield _Wave(request.resident, width, steps, len(wave), request.owner, start + each >= len(rows))


def _wave_ends(waves: Iterable[_Wave], requests: int) -> Iterator[tuple[float, _Wave]]:
    """Yield the times until each ends, if nothing else arrives. waves: in the order of the policy, those of `requests`.

    The share of the oldest is left out.
    """
    now, waiting = 0.0, list(waves)
    while waiting:
        resident = waiting[0].resident
        mine = (wave for wave in waiting if wave.resident is resident)
        rows = rows_worth_a_step(resident, (wave.width for wave in waiting if wave.resident is resident), requests)
        paces = list[tuple[_Wave, float]]()
        left = rows
        for wave in mine:
            paces.append((wave, min(1.0, left / wave.width)))
            left -= wave.width
            if left <= 0:
                break
        steps = min(wave.steps / pace for wave, pace in paces)
        now += steps * resident.speed.seconds(rows - max(0, left))
        for wave, pace in paces:
            wave.steps -= steps * pace
            if wave.steps < 1e-6:
                waiting.remove(wave)
                requests -= wave.last
                yield now, wave


def _row_ends(requests: Iterable[Request], number: int) -> list[tuple[float, int | None]]:
    """Return the times until each row ends, if nothing else arrives, in their order, and its owner."""
    return [(end, wave.owner) for end, wave in _wave_ends(_waves(requests), number) for _ in range(wave.rows)]


def _at_most(
    idle: float, deadline: float, promised: Sequence[tuple[float, float]], at_ease: float, margin: float
) -> float:
    """Return the time that a request with a deadline needs at most, all in seconds.

    idle: its own time; promised: deadlines of the others and their own times, earliest deadline first; at_ease: the
    time of those without; margin: by which each starts earlier than it must. Steps that are paced or of another version
    need not be full ones, so each counts with its own time.
    """
    place = bisect_right(promised, deadline, key=itemgetter(0))
    before = idle + sum(own for _, own in promised[:place])
    others = at_ease + sum(own for _, own in promised[place:])
    ends = _shared(before, others) + margin
    for due, own in promised[place:]:  # those that come later must not become late
        others -= own
        before += own
        theirs = _shared(before, others) + margin
        if theirs > due:
            return max(ends, theirs)
    return ends


def _shared(seconds: float, others: float) -> float:
    """Return the time for work while older requests, of `others` seconds, take their share of each step."""
    return min(seconds / OTHERS_SHARE, seconds + others)
