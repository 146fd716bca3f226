"""Laws of the scheduling policy, in a simulation with its own clock (bench/scheduling.py)."""

import math
from dataclasses import dataclass
from operator import itemgetter
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.scheduling import Simulation, Steps
from darkroom.app.engine.phases import Phase
from darkroom.app.engine.policy import OLDEST_SHARE, OTHERS_SHARE, Policy, rows_worth_a_step
from darkroom.app.engine.request import DeadlineUnmeetable
from darkroom.app.engine.residents import Resident
from darkroom.app.engine.rows import Request
from darkroom.app.engine.speed import SpeedCurve
from darkroom.model.diffusion.denoiser import Denoiser

SPEED = SpeedCurve({1: 0.010, 4: 0.016, 16: 0.040, 64: 0.150})
LIMIT = 32
STEP = SPEED.seconds(LIMIT)


MODEL, OTHER = (Resident(name, cast(Denoiser, None), SPEED, LIMIT) for name in ("model", "other"))


@dataclass(eq=False)
class Arrival:
    """A request to come. deadline: on the engine's clock."""

    arrived: float
    images: int
    steps: int
    deadline: float | None = None
    owner: int | None = None
    resident: Resident = MODEL
    ended: float = math.nan

    @property
    def work(self) -> float:
        """Its work in full batches, in seconds."""
        return self.resident.seconds(2 * self.images * self.steps)


def request(
    arrived: float,
    images: int,
    steps: int,
    *,
    deadline: float | None = None,
    owner: int | None = None,
    resident: Resident = MODEL,
) -> Arrival:
    return Arrival(arrived, images, steps, deadline, owner, resident)


def serve(arrivals: list[Arrival]) -> None:
    """Serve all requests, whatever admission says, and note when they end."""
    simulation, accepted = Simulation(MODEL), dict[Request, Arrival]()
    for one in sorted(arrivals, key=lambda one: one.arrived):
        simulation.run(one.arrived)
        accepted[submit(simulation, one)] = one
    simulation.run()
    for made, one in accepted.items():
        one.ended = simulation.ended[made]


def submit(simulation: Simulation, one: Arrival) -> Request:
    deadline = None if one.deadline is None else one.deadline - simulation.now
    return simulation.submit(one.images, one.steps, deadline, one.owner, resident=one.resident, admitted=False)


def duration(one: Arrival) -> float:
    assert one.ended > one.arrived
    return one.ended - one.arrived


def test_a_short_request_never_waits_for_a_long_one() -> None:
    long, short = request(0.0, 64, 50), request(1.0, 1, 10)
    serve([long, short])
    assert duration(short) <= 11.5 * STEP, "its ten steps, after the step that was running"


def test_a_short_request_runs_alone_beside_one_long_one_and_in_company_beside_many() -> None:
    def seconds(long_ones: int) -> float:
        short = request(1.0, 1, 10)
        serve([*(request(0.0, 64, 50) for _ in range(long_ones)), short])
        return duration(short)

    alone, slack = SPEED.seconds_alone(2, 10, LIMIT), 2 * STEP
    assert seconds(1) <= alone + slack < 10 * STEP <= seconds(20)


def test_the_time_that_rows_in_company_lose_is_weighed_against_what_the_others_save() -> None:
    joining = SPEED.seconds(LIMIT) - SPEED.seconds(2)
    saved = 30 / LIMIT * STEP - joining
    few, many = math.floor(joining / saved), math.ceil(joining / saved)
    assert rows_worth_a_step(MODEL, [2, LIMIT], 1 + few) == 2
    assert rows_worth_a_step(MODEL, [2, LIMIT], 1 + many) == LIMIT
    assert rows_worth_a_step(MODEL, [2, 2, LIMIT], 3) == 4, "equal ones share their steps"


def test_a_long_request_gets_its_third_under_a_stream_of_short_ones() -> None:
    long = request(0.0, 16, 50)
    alone = long.work
    stream = [request(0.005 * number, 1, 10) for number in range(2000)]  # more than the engine's speed
    serve([long, *stream])
    assert duration(long) <= alone / OLDEST_SHARE + (50 + 4) * STEP


def test_a_full_backlog_fills_every_step() -> None:
    simulation = Simulation(MODEL)
    for _ in range(100):
        submit(simulation, request(0.0, 1, 10))
    assert sum(row.network_rows for row in simulation.queue.pick(0.0)) == LIMIT


def test_one_image_of_another_owner_is_delayed_by_a_step_or_two() -> None:
    crowd = [request(0.0, 1, 10, owner=1) for _ in range(1000)]
    other = request(0.01, 1, 10, owner=2)
    serve([*crowd, other])
    assert duration(other) <= 13 * STEP


def test_models_alternate_when_the_oldest_request_is_of_another() -> None:
    long = request(0.0, 16, 50, resident=OTHER)
    alone = long.work
    stream = [request(0.005 * number, 1, 10) for number in range(2000)]
    serve([long, *stream])
    assert duration(long) <= alone / OLDEST_SHARE + (50 + 4) * STEP


SLOW = Resident("slow", cast(Denoiser, None), SpeedCurve({1: 0.5, 64: 2.0}), 64)


@pytest.mark.parametrize(("oldest", "others"), [(SLOW, MODEL), (MODEL, SLOW)])
def test_the_oldest_gets_a_third_of_the_time_and_no_more_at_unequal_speeds(oldest: Resident, others: Resident) -> None:
    simulation = Simulation(MODEL)
    submit(simulation, request(0.0, 2000, 50, resident=oldest))
    for _ in range(2000):
        submit(simulation, request(0.0, 16, 50, resident=others))
    spent = {oldest: 0.0, others: 0.0}
    while simulation.now < 100.0:
        began = simulation.now
        spent[simulation.step()[0].request.resident] += simulation.now - began
    assert spent[oldest] == pytest.approx(100.0 * OLDEST_SHARE, abs=2 * SLOW.speed.seconds(64))


def test_a_deadline_comes_first_when_it_is_near_and_not_before() -> None:
    def times(deadline: float) -> tuple[float, float]:
        late, short = request(0.0, 16, 50, deadline=deadline), [request(0.1 * n, 4, 10) for n in range(100)]
        serve([late, *short])
        return duration(late), sum(duration(one) for one in short[:20])

    near, far = times(4.5), times(100.0)
    assert near[0] <= 4.5 < far[0]
    assert far[1] < near[1]


def test_a_step_is_no_larger_than_a_near_deadline_allows() -> None:
    crowd = [request(0.0, 64, 50)]
    hurried = request(0.0, 1, 10, deadline=0.2)  # in full steps it would take 0.75 s
    serve([*crowd, hurried])
    assert SPEED.seconds_alone(2, 10, LIMIT) < duration(hurried) <= 0.2


Arrivals = st.lists(
    st.tuples(
        st.floats(0.0, 5.0),
        st.integers(1, 40),
        st.integers(1, 30),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([MODEL, OTHER]),
    ),
    min_size=1,
    max_size=14,
)


@given(Arrivals)
@settings(max_examples=150, deadline=None)
def test_every_request_ends_within_the_work_before_it_at_a_third_of_the_speed(
    arrivals: list[tuple[float, int, int, int | None, Resident]],
) -> None:
    """Later arrivals never count. Steps that are not full are those in which all of the request's rows advance."""
    requests = sorted(
        (request(at, images, steps, owner=owner, resident=resident) for at, images, steps, owner, resident in arrivals),
        key=lambda one: one.arrived,
    )
    work = [one.work for one in requests]
    serve(requests)
    for number, one in enumerate(requests):
        bound = (sum(work[: number + 1]) + (one.steps + 4) * STEP) / OLDEST_SHARE
        assert duration(one) <= bound


LATER = 1.0 / 3.0
"""The share of the time that later requests need which come before an earlier one."""


def full_time(one: Arrival) -> float:
    """Return the time of its work in full batches, and of as many full steps as it has."""
    return one.work + one.steps * one.resident.full_step


def most_seconds(one: Arrival, requests: list[Arrival]) -> float:
    """Return K times the idle time of a request without a deadline (docstring of the policy)."""
    mine = full_time(one)
    met = [other for other in requests if other is not one and other.arrived <= one.arrived < other.ended]
    meets = sum(1.0 if other.deadline is None else max(1.0, full_time(other) / mine) for other in met)
    later, burst = 0.0, 0.0
    for other in requests:
        if one.arrived < other.arrived and (other.deadline is not None or other.work <= one.work):
            later += full_time(other)
            burst = max(burst, later - LATER * (other.arrived - one.arrived))
    slowest = max(other.resident.full_step for other in requests)
    return (mine * (meets + burst / mine + 1.0) + 3.0 * slowest) / (OTHERS_SHARE - LATER)


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 20.0),
            st.one_of(st.integers(1, 4), st.integers(1, 64)),
            st.integers(1, 50),
            st.one_of(st.none(), st.floats(0.1, 60.0)),
            st.sampled_from([MODEL, OTHER, SLOW]),
        ),
        min_size=2,
        max_size=14,
    )
)
@example([(0.0, 64, 50, None, MODEL), (0.1, 1, 1, None, MODEL)])
@example([(0.0, 64, 50, None, SLOW), (0.1, 1, 10, None, MODEL)])
@settings(max_examples=150, deadline=None)
def test_every_request_ends_within_a_multiple_of_its_idle_time(
    arrivals: list[tuple[float, int, int, float | None, Resident]],
) -> None:
    """However long the longer requests are."""
    requests = list[Arrival]()
    simulation, made = Simulation(MODEL), dict[Arrival, Request]()
    for at, images, steps, seconds, resident in sorted(arrivals, key=itemgetter(0)):
        simulation.run(at)
        one = request(simulation.now, images, steps, resident=resident)
        try:
            made[one] = simulation.submit(images, steps, seconds, resident=resident)
        except DeadlineUnmeetable:
            continue
        one.deadline = made[one].deadline
        requests.append(one)
    simulation.run()
    for one in requests:
        one.ended = simulation.ended[made[one]]
    for one in requests:
        if one.deadline is None:
            assert duration(one) <= most_seconds(one, requests)


@given(Arrivals)
@settings(max_examples=60, deadline=None)
def test_the_order_that_is_kept_is_the_order_that_sorting_gives(
    arrivals: list[tuple[float, int, int, int | None, Resident]],
) -> None:
    """A new policy with the same requests picks the same rows, before every step."""
    simulation = Simulation(MODEL)
    kept = simulation.queue._policy
    coming = sorted(arrivals, key=lambda one: one[0])
    while coming or simulation.queue.requests:
        while coming and (coming[0][0] <= simulation.now or not simulation.queue.requests):
            at, images, steps, owner, resident = coming.pop(0)
            deadline = at + steps if images % 3 == 0 else None
            submit(simulation, request(at, images, steps, deadline=deadline, owner=owner, resident=resident))
        new = Policy()
        new._owed = kept._owed
        for one in kept.requests:
            new.add(one)
        expected = new.pick(simulation.now)
        assert simulation.step() == expected


def test_a_step_behind_two_thousand_requests_looks_at_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation, looked = Simulation(MODEL), list[Request]()
    for number in range(2000):
        submit(simulation, request(0.0, 1, 10 + number % 40))
    simulation.step()

    def look(one: Request, name: str) -> object:
        looked.append(one)
        return object.__getattribute__(one, name)

    monkeypatch.setattr(Request, "__getattribute__", look)
    simulation.queue.pick(simulation.now)
    assert 0 < len(set(looked)) <= 2 * LIMIT


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_oldest_gets_its_share_of_very_small_steps(limit: int) -> None:
    narrow = Resident("narrow", cast(Denoiser, None), SPEED, limit)
    long = request(0.0, 4, 10, resident=narrow)
    stream = [request(0.004 * number, 1, 4, resident=narrow) for number in range(600)]
    serve([long, *stream])
    steps = math.ceil(40 / OLDEST_SHARE)
    assert duration(long) <= (steps + 8) * SPEED.seconds(2)


def test_the_knee_is_the_size_above_which_throughput_hardly_grows() -> None:
    assert SpeedCurve({1: 1.0, 2: 1.05, 4: 1.2, 8: 2.4, 16: 4.8}).knee() == 4
    assert SpeedCurve({1: 1.0, 2: 2.0}).knee() == 1


def test_the_curve_interpolates_and_follows_new_measurements() -> None:
    curve = SpeedCurve({1: 1.0, 3: 2.0})
    assert curve.seconds(2) == 1.5
    assert curve.seconds(6) == 4.0
    for _ in range(200):
        curve.observe(3, 4.0)
    assert abs(curve.seconds(3) - 4.0) < 0.01
    assert curve.largest_within(1.0, 2) == 2


def test_a_row_of_two_network_rows_runs_where_the_limit_is_one() -> None:
    simulation = Simulation(Resident("narrow", cast(Denoiser, None), SPEED, 1))
    request = simulation.submit(2, 5, deadline=0.05, admitted=False)  # urgent, so that the row with most steps is first
    request.unfinished[0].phase = cast(Phase, Steps(1, network_rows=1))
    simulation.run()
    assert request in simulation.ended
