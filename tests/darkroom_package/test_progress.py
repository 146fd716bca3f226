"""Laws of progress: a bar with the end time on a terminal, a line now and then in a pipe, nothing for short work."""

from datetime import datetime
from io import StringIO

import pytest
from rich.console import Console

from darkroom.model.progress import SECONDS_BETWEEN_LINES, Pace
from darkroom.model.training import curve_point
from darkroom.progress import FIRST_LINE_SECONDS, progress


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class _Noon(datetime):
    @classmethod
    def now(cls, tz: object = None) -> "_Noon":
        return cls(2026, 1, 5, 12)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """A clock of seconds. The time of day is noon."""
    monkeypatch.setattr(curve_point, "datetime", _Noon)
    return _Clock()


def test_a_pipe_gets_few_lines_with_the_end_time(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out, width=200), clock) as meter:
        for done in range(0, 1001, 10):
            meter("drawing images", done, 1000)
            clock.now += 1.0
    first, *more = out.getvalue().splitlines()
    assert first == f"drawing images: {10 * int(FIRST_LINE_SECONDS)} of 1,000  1.6 minutes left, until 12:01"
    assert len(more) == int((100 - FIRST_LINE_SECONDS) // SECONDS_BETWEEN_LINES)
    assert more[0] == "drawing images: 320 of 1,000  68 seconds left, until 12:01"


def test_short_work_says_nothing_in_a_pipe(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out), clock) as meter:
        clock.now += 2 * FIRST_LINE_SECONDS  # before the work
        for done in range(10):
            meter("drawing images", done, 10)
            clock.now += FIRST_LINE_SECONDS / 11
    assert out.getvalue() == ""


def test_each_stretch_has_its_own_time_and_an_unknown_total_has_no_end(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out, width=200), clock) as meter:
        meter("looking for files")
        clock.now += SECONDS_BETWEEN_LINES
        meter("checking")
        meter("sending", 500, 1000, "{} B".format)  # it goes on from here
        clock.now += SECONDS_BETWEEN_LINES
        meter("sending", 750, 1000, "{} B".format)
        clock.now += SECONDS_BETWEEN_LINES
        meter("sending", 1000, 1000, "{} B".format)
    assert out.getvalue().splitlines() == [
        "checking",
        "sending: 750 B of 1000 B  30 seconds left, until 12:00",
        "sending: 1000 B of 1000 B",
    ]


def test_work_that_begins_again_has_its_own_pace(clock: _Clock) -> None:
    pace = Pace(clock)
    assert pace.take("decoding", 0)
    clock.now += 100.0
    assert not pace.take("decoding", 10)
    assert pace.seconds_left(20) == 100.0
    assert pace.take("decoding", 0)  # the other half of the pictures
    assert pace.seconds_left(20) is None
    clock.now += 1.0
    pace.take("decoding", 10)
    assert pace.seconds_left(20) == 1.0
    assert pace.seconds_left(None) is None


def test_a_terminal_gets_a_bar_with_the_end_time_that_goes_away(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out, width=120, force_terminal=True), clock) as meter:
        meter("[bold]drawing", 3, 10)
        clock.now += 30.0
        meter("[bold]drawing", 5, 10)
    text = out.getvalue()
    assert "[bold]drawing: 5 of 10" in text  # a name is never markup
    assert "75 seconds left, until 12:01" in text
    assert text.endswith("\x1b[2K")  # the bar's line is cleared
