"""Laws of progress: a bar with the end time on a terminal, a line now and then in a pipe, nothing for short work."""

from io import StringIO

import pytest
from rich.console import Console

from darkroom.app.cli.progress import FIRST_LINE_SECONDS, SECONDS_BETWEEN_LINES, progress


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def test_a_pipe_gets_few_lines_with_the_time_left(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out, width=200), clock=clock) as meter:
        for done in range(0, 1001, 10):
            meter("drawing images", done, 1000)
            clock.now += 1.0
    first, *more = out.getvalue().splitlines()
    assert first == f"drawing images: {10 * int(FIRST_LINE_SECONDS)} of 1,000  1.6 minutes left"
    assert len(more) == int((100 - FIRST_LINE_SECONDS) // SECONDS_BETWEEN_LINES)
    assert more[0] == "drawing images: 350 of 1,000  65 seconds left"


def test_short_work_says_nothing_in_a_pipe(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out), clock=clock) as meter:
        for done in range(10):
            meter("drawing images", done, 10)
            clock.now += FIRST_LINE_SECONDS / 11
    assert out.getvalue() == ""


def test_each_stretch_has_its_own_time_and_an_unknown_total_has_no_end(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out, width=200), "{} B".format, clock) as meter:
        clock.now += SECONDS_BETWEEN_LINES
        meter("checking")
        meter("sending", 500, 1000)  # it goes on from here
        clock.now += SECONDS_BETWEEN_LINES
        meter("sending", 750, 1000)
        clock.now += SECONDS_BETWEEN_LINES
        meter("sending", 1000, 1000)
    assert out.getvalue().splitlines() == [
        "checking",
        "sending: 750 B of 1000 B  30 seconds left",
        "sending: 1000 B of 1000 B",
    ]


def test_a_terminal_gets_a_bar_that_goes_away(clock: _Clock) -> None:
    out = StringIO()
    with progress(Console(file=out, width=100, force_terminal=True), clock=clock) as meter:
        meter("[bold]drawing", 3, 10)
        clock.now += 2.0 * FIRST_LINE_SECONDS
        meter("[bold]drawing", 5, 10)
    text = out.getvalue()
    assert "[bold]drawing" in text  # a name is never markup
    assert "5 of 10" in text
    assert "left" not in text
    assert text.endswith("\x1b[2K")  # the bar's line is cleared
