"""Laws of the bench of overload: when a Retry-After was right."""

import pytest

from bench.overload import latency_table, requests_per_second, retry_table, right
from bench.serving.load import Load


@pytest.mark.parametrize(
    ("told", "later", "expected"),
    [
        (10.0, [(109.0, False), (112.0, True)], True),
        (4.0, [(109.0, False), (112.0, True)], False),  # the client would ask twice as early as it could
        (25.0, [(109.0, False), (112.0, True)], False),  # and twice as late
        (5.0, [(109.0, False), (112.0, True)], True),
        (24.0, [(109.0, False), (112.0, True)], True),
        (3.0, [(112.0, True)], True),  # the place may have been free at any time before
        (1.0, [(100.1, True)], True),
        (2.0, [(100.1, True)], False),
        (1.0, [(103.0, False), (104.0, True)], False),
        (1.0, [(103.0, False)], False),  # it was refused after twice the time, whenever it would be admitted
        (1.0, [(102.0, False)], None),
        (1.0, [], None),
    ],
)
def test_retry_after_is_right_within_a_factor_of_two_of_the_next_admission(
    told: float, later: list[tuple[float, bool]], expected: bool | None
) -> None:
    assert right(told, 100.0, later) is expected


def test_refusals_are_counted_by_kind_and_status_with_those_that_lack_the_header() -> None:
    planned = [(0.0, "small"), (1.0, "small"), (2.0, "large"), (3.0, "small"), (4.0, "small")]
    answers = [(429, 3.0), (429, 9.0), (503, None), (200, None), (429, 1.0)]
    answered = [(kind, status, 0.1, told) for (_, kind), (status, told) in zip(planned, answers, strict=True)]
    assert retry_table(planned, answered).splitlines()[2:] == [
        "| small | 429 | 3 | 3 | 3 / 9 | 1 of 2 | 1 |",
        "| large | 503 | 1 | 0 |  | 0 of 0 | 0 |",
    ]


def test_the_capacity_does_not_depend_on_the_shares_of_the_burst() -> None:
    # a mean request has 0.7 x 10 + 0.25 x 80 + 0.05 x 1600 = 107 steps of images
    small = [("small", 200, 1.0, None)] * 107 + [("large", 429, 1.0, 5.0)]
    assert requests_per_second(Load(small, 5.0)) == pytest.approx(2.0)
    assert requests_per_second(Load([*small, *[("large", 200, 1.0, None)] * 107], 5.0 * 161)) == pytest.approx(2.0)


def test_requests_that_were_never_admitted_are_counted() -> None:
    load = Load([("small", 200, 1.0, None), ("small", 429, 0.1, 3.0), ("large", 503, 0.1, 3.0)], 5.0)
    small, _, large = latency_table({"any": load}).splitlines()[2:]
    assert small == "| any | small | 1 of 2 | 1 | 1.00 | 1.00 | 1.00 |"
    assert large == "| any | large | 0 of 1 | 1 | nan | nan | nan |"
