"""Laws of the scheduling policy, in a simulation with its own clock."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from darkroom.app.engine.policy import due_time, pick_rows
from darkroom.app.engine.speed import SpeedCurve

SPEED = SpeedCurve({1: 0.010, 4: 0.016, 16: 0.040, 64: 0.150})
LIMIT = 32


@dataclass(eq=False)
class Row:
    steps: int
    network_rows: int = 2


@dataclass(eq=False)
class Request:
    arrived: float
    rows: int
    steps: int
    unfinished: list[Row] = field(default_factory=list)
    finished: float | None = None

    def __post_init__(self) -> None:
        self.unfinished = [Row(self.steps) for _ in range(self.rows)]
        width = min(LIMIT, 2 * self.rows)
        self.idle_seconds = self.steps * SPEED.seconds(width) * 2 * self.rows / width
        self.due = due_time(self.arrived, self.idle_seconds, None)


def simulate(requests: list[Request]) -> None:
    """Run the requests until all are finished."""
    now = 0.0
    while open_requests := [request for request in requests if request.finished is None]:
        here = [request for request in open_requests if request.arrived <= now]
        if not here:
            now = min(request.arrived for request in open_requests)
            continue
        picked = pick_rows(here, SPEED, LIMIT)
        taken = sum(row.network_rows for row in picked)
        assert picked
        assert taken <= LIMIT
        now += SPEED.seconds(taken)
        for row in picked:
            row.steps -= 1
        for request in here:
            request.unfinished = [row for row in request.unfinished if row.steps]
            if not request.unfinished:
                request.finished = now


def test_a_short_request_is_not_held_up_by_a_long_one() -> None:
    long, short = Request(0.0, 64, 50), Request(1.0, 1, 10)
    simulate([long, short])
    assert short.finished is not None
    assert short.finished - short.arrived <= 3.0 * short.idle_seconds


def test_a_long_request_does_not_starve_under_a_stream_of_short_ones() -> None:
    long = Request(0.0, 16, 50)
    stream = [Request(0.12 * number, 1, 10) for number in range(400)]  # the engine's speed for these alone
    simulate([long, *stream])
    assert long.finished is not None
    assert long.finished < stream[-1].arrived / 2


def test_many_short_requests_share_full_batches() -> None:
    requests = [Request(0.0, 1, 10) for _ in range(100)]
    assert sum(row.network_rows for row in pick_rows(requests, SPEED, LIMIT)) == LIMIT


def test_a_request_with_an_earlier_deadline_comes_first() -> None:
    assert due_time(10.0, 5.0, 12.0) == 12.0
    assert due_time(10.0, 5.0, 100.0) == 25.0


@given(
    st.lists(
        st.tuples(st.floats(0.0, 5.0), st.integers(1, 40), st.integers(1, 30)),
        min_size=1,
        max_size=12,
    )
)
def test_every_request_finishes(arrivals: list[tuple[float, int, int]]) -> None:
    requests = [Request(*arrival) for arrival in arrivals]
    simulate(requests)
    assert all(request.finished is not None for request in requests)


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
