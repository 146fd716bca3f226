"""What people read while a run trains."""

from darkroom.model.training.curve_point import CurvePoint, ProgressLines
from darkroom.model.training.forecast import Forecast

NOW = CurvePoint(1_000, 0.25, 1.0, 1e-3, 50.0, 0, seconds_left=60.0)


def test_the_first_point_is_a_line_and_the_next_one_waits() -> None:
    said: list[str] = []
    lines = ProgressLines(said.append, lambda: None)
    lines(NOW)
    lines(NOW)
    (line,) = said
    assert line.startswith("1,000 of 4,000 images  50/s  loss 0.2500  60 seconds left, until ")
    assert "distance" not in line


def test_a_line_tells_the_expected_distance_once_there_is_one() -> None:
    said: list[str] = []
    ProgressLines(said.append, lambda: Forecast(700.0, 500.0, 900.0, 600.0))(NOW)
    assert said[0].endswith(f"expected distance {Forecast(700.0, 500.0, 900.0, 600.0)}")
