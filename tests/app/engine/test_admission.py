"""Laws of admission, with the queue and its policy on a simulated engine: what it promises is what happens."""

import contextlib
import math
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.scheduling import Simulation
from darkroom.app.engine.forecast import Work, foresee
from darkroom.app.engine.request import DeadlineUnmeetable, QueueFull, QueueLong, TooManyRows
from darkroom.app.engine.residents import Resident
from darkroom.app.engine.rows import Request
from darkroom.app.engine.speed import SpeedCurve
from darkroom.model.diffusion.denoiser import Denoiser

SPEED = {2: 0.0111, 4: 0.0132, 8: 0.0175, 16: 0.0257, 32: 0.0428, 64: 0.0856}
STEP = 0.0428
SLACK = 0.5
"""Seconds by which a time may be wrong besides: `Retry-After` has whole seconds."""


def simulated(limit: int = 2048, seconds: float = math.inf) -> Simulation:
    simulation = Simulation(Resident("v", cast(Denoiser, None), SpeedCurve(SPEED), 32), limit)
    simulation.queue.seconds = seconds
    return simulation


def assert_promises_are_kept(arrivals: Iterable[tuple[Any, ...]]) -> None:
    """Submit each request after its pause, and serve all. arrivals: pause, images, steps, deadline, owner, version."""
    simulation, promised = simulated(), list[Request]()
    for gap, images, steps, deadline, owner, version in arrivals:
        simulation.run(simulation.now + gap)
        try:
            request = simulation.submit(images, steps, deadline, owner, resident=version)
        except DeadlineUnmeetable:
            continue
        if deadline is not None:
            promised.append(request)
    simulation.run()
    for request in promised:
        assert request.deadline is not None
        assert simulation.ended[request] <= request.deadline


Arrival = st.tuples(
    st.floats(0.0, 2.0),
    st.integers(1, 40),
    st.integers(1, 50),
    st.one_of(st.none(), st.floats(0.05, 20.0)),
    st.sampled_from([None, 1, 2]),
)


@given(st.lists(Arrival, min_size=1, max_size=12))
@example(
    [(0.0, 1, 1, None, None)] * 3
    + [(0.0, 13, 47, None, None), (0.0, 13, 16, None, None), (0.0, 9, 50, 3.0, None), (0.0, 27, 36, 6.0, None)]
)
@settings(max_examples=60, deadline=None)
def test_an_accepted_deadline_is_kept_whatever_comes_later(
    arrivals: list[tuple[float, int, int, float | None, int | None]],
) -> None:
    assert_promises_are_kept([(*one, None) for one in arrivals])


@given(st.integers(1, 40), st.integers(1, 50))
@settings(deadline=None)
def test_an_idle_engine_accepts_a_deadline_that_it_can_just_meet(images: int, steps: int) -> None:
    simulation = simulated()
    idle = foresee(0.0, simulation.resident, Work(images, 2 * images * steps, steps), None).idle_seconds
    with pytest.raises(DeadlineUnmeetable):
        simulation.submit(images, steps, 0.99 * idle)
    request = simulation.submit(images, steps, 1.001 * idle)
    simulation.run()
    assert simulation.ended[request] <= 1.001 * idle + STEP


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 50)), min_size=1, max_size=15), st.integers(0, 14))
@settings(max_examples=200, deadline=None)
def test_the_expected_time_is_that_of_the_policy_within_a_factor_of_two(
    work: list[tuple[int, int]], which: int
) -> None:
    simulation = simulated()
    for images, steps in work[:which]:
        simulation.submit(images, steps)
    images, steps = work[which % len(work)]
    cost = Work(images, 2 * images * steps, steps)
    expected = simulation.queue.expected_seconds(foresee(0.0, simulation.resident, cost, None))
    request = simulation.submit(images, steps)
    simulation.run()
    assert 0.5 * expected - STEP <= simulation.ended[request] <= 2.0 * expected + STEP


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(5, 50)), min_size=5, max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_full_queue_tells_when_it_has_room_within_a_factor_of_two(work: list[tuple[int, int]]) -> None:
    simulation = simulated(limit=100)
    for images, steps in work:
        try:
            simulation.submit(images, steps)
        except QueueFull as full:
            told = full.retry_after_seconds
            break
    else:
        return
    while True:
        simulation.run(simulation.now + 1e-3)
        try:
            simulation.submit(images, steps)
        except QueueFull:
            continue
        break
    assert 0.5 * told - SLACK <= simulation.now <= 2.0 * told + SLACK


def test_no_more_work_is_taken_than_the_queue_may_hold_whatever_the_size() -> None:
    simulation = simulated(seconds=10.0)
    for _ in range(1000):
        with contextlib.suppress(QueueLong):
            simulation.submit(8, 20)
    work = sum(one.seconds_left for one in simulation.queue.requests)
    assert 12.0 <= work <= 12.5, "the limit, and a quarter above it"
    for images in (8, 32):
        with pytest.raises(QueueLong) as refused:
            simulation.submit(images, 20)
        assert 0.0 < refused.value.retry_after_seconds <= work - 10.0
        simulation.run(simulation.now + refused.value.retry_after_seconds + STEP)
        simulation.submit(images, 20)


def test_long_requests_keep_nobody_from_sending_short_ones_which_take_a_tenth_of_the_time_there() -> None:
    simulation = simulated(seconds=10.0)
    while sum(one.seconds_left for one in simulation.queue.requests) < 10.0:
        simulation.submit(32, 20)
    with pytest.raises(QueueLong):
        simulation.submit(64, 40)
    short = simulation.submit(1, 10)
    taken = short.seconds_left
    for _ in range(2000):
        with contextlib.suppress(QueueLong):
            taken += simulation.submit(1, 10).seconds_left
    assert taken == pytest.approx(0.25 * 10.0, abs=short.seconds_left + 0.03)
    with pytest.raises(QueueLong) as refused:
        simulation.submit(1, 10)
    simulation.run(min(1.0, refused.value.retry_after_seconds) + STEP)
    simulation.submit(1, 10)


def test_a_request_longer_than_the_queue_may_hold_leaves_room_for_others() -> None:
    simulation = simulated(seconds=1.0)
    longest = simulation.submit(64, 50)
    assert longest.seconds_left > 1.0
    simulation.submit(64, 50)
    simulation.submit(1, 10)


def test_owners_share_the_time_that_the_queue_may_hold() -> None:
    simulation = simulated(seconds=10.0)
    held = {1: 0.0, 2: 0.0}
    for owner in held:
        for _ in range(1000):
            with contextlib.suppress(QueueLong):
                held[owner] += simulation.submit(4, 20, owner=owner).seconds_left
    assert held == pytest.approx({1: 12.5, 2: 5.0}, abs=0.5), "the first has used up what is above the limit"
    with pytest.raises(QueueLong) as refused:
        simulation.submit(1, 10, owner=2)
    assert refused.value.limit_seconds == 5.0


SPEEDS = {"even": 1.0, "slow": 20.0, "fast": 0.05}


def resident(name: str) -> Resident:
    curve = SpeedCurve({rows: SPEEDS[name] * seconds for rows, seconds in SPEED.items()})
    return Resident(name, cast(Denoiser, None), curve, 32)


Mixed = st.tuples(
    st.floats(0.0, 2.0),
    st.integers(1, 40),
    st.integers(1, 50),
    st.one_of(st.none(), st.floats(1.0, 20.0)),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(sorted(SPEEDS)),
)


@given(st.lists(Mixed, min_size=1, max_size=12))
@example(
    [(0.0, 8, 50, None, None, "slow"), *[(0.005, 1, 10, None, None, "even")] * 60, (0.0, 16, 10, 5.0, None, "even")]
)
@settings(max_examples=300, deadline=None)
def test_an_accepted_deadline_is_kept_beside_versions_of_unequal_speed(
    arrivals: list[tuple[float, int, int, float | None, int | None, str]],
) -> None:
    residents = {name: resident(name) for name in SPEEDS}
    assert_promises_are_kept([(*one, residents[name]) for *one, name in arrivals])


def test_the_earliest_deadline_that_is_accepted_is_kept_beside_two_versions() -> None:
    simulation, slow = simulated(), resident("slow")
    simulation.submit(2, 43)
    simulation.submit(2, 25, resident=slow)
    deadline = 0.1
    while True:
        try:
            hurried = simulation.submit(2, 35, deadline, resident=slow)
        except DeadlineUnmeetable as refusal:
            deadline = 1.0001 * refusal.expected_seconds
        else:
            break
    simulation.submit(3, 37, resident=slow)
    simulation.run()
    assert simulation.ended[hurried] <= deadline


@pytest.mark.parametrize(("keys", "images"), [([None], 25), ([1], 12), ([1, 2, 3], 6)])
def test_a_full_queue_takes_large_requests_as_readily_as_small_ones(keys: list[int | None], images: int) -> None:
    """One of each is offered before every step."""
    simulation, generator = simulated(limit=100), random.Random(3)
    taken = Counter[int]()
    for _ in range(4000):
        for size in generator.sample((1, images), 2):
            with contextlib.suppress(QueueFull):
                simulation.submit(size, 10, owner=generator.choice(keys))
                taken[size] += 1
        assert simulation.queue.rows <= 100
        simulation.step()
    assert taken[1] > 20
    assert taken[images] >= 0.5 * taken[1]


@pytest.mark.parametrize(
    "work",
    [
        [(20, 10, 2)] * 2 + [(20, 50, 1), (10, 50, 1)],  # what another key's rows leave raises this key's limit
        [(20, 10, 1)] * 2 + [(20, 10, 2), (5, 10, 2)],  # rows of another key slow this key's rows down
    ],
)
@pytest.mark.parametrize("images", [1, 5, 10])
def test_a_key_is_told_when_it_has_room_within_a_factor_of_two(work: list[tuple[int, int, int]], images: int) -> None:
    simulation, owner = simulated(limit=100), 1
    for size, steps, other in work:
        simulation.submit(size, steps, owner=other)
    with pytest.raises(QueueFull) as full:
        simulation.queue.require_room(images, owner)
    told = full.value.retry_after_seconds
    while True:
        simulation.step()
        try:
            simulation.queue.require_room(images, owner)
        except QueueFull:
            continue
        break
    assert 0.5 * told - SLACK <= simulation.now <= 2.0 * told + SLACK


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(5, 50)), min_size=1, max_size=30),
    st.integers(1, 40),
    st.integers(5, 50),
    st.floats(1.0, 10.0),
)
@example([(32, 50)] * 15, 32, 50, 1.2)
@settings(max_examples=200, deadline=None)
def test_a_refused_deadline_is_told_when_it_would_be_accepted_within_a_factor_of_two(
    work: list[tuple[int, int]], images: int, steps: int, tightness: float
) -> None:
    simulation = simulated()
    for size, length in work:
        simulation.submit(size, length)
    cost = Work(images, 2 * images * steps, steps)
    deadline = tightness * foresee(0.0, simulation.resident, cost, None).idle_seconds

    def refusal() -> DeadlineUnmeetable | None:
        try:
            simulation.queue.admit(simulation.now, simulation.resident, cost, deadline)
        except DeadlineUnmeetable as late:
            return late
        return None

    late = refusal()
    if late is None:
        return
    assert late.retry_after_seconds is not None
    while refusal():
        simulation.step()
    told = late.retry_after_seconds
    assert 0.5 * told - SLACK <= simulation.now <= 2.0 * told + SLACK


def test_an_owner_leaves_room_for_others() -> None:
    simulation = simulated(limit=100)
    with pytest.raises(TooManyRows):
        simulation.submit(51, 1, owner=1)
    simulation.submit(50, 1, owner=1)
    with pytest.raises(QueueFull):
        simulation.submit(1, 1, owner=1)
    simulation.submit(25, 1, owner=2)
    with pytest.raises(QueueFull):
        simulation.submit(13, 1, owner=3)
    simulation.submit(12, 1, owner=3)
    simulation.run()
    simulation.submit(50, 1, owner=2)
