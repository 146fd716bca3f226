"""Asks before a run of more than a day, as soon as the run knows its speed."""

from darkroom.model.training.curve_point import DAY_SECONDS, CurvePoint, duration
from darkroom.model.training.trainer import TrainingError


class DayLimit:
    """Raises TrainingError at a run's second curve point if the run would take more than a day.

    The first steps are slower, above all where they are compiled. agreed: the user allows such a run. agree: says how,
    such as "add --long".
    """

    def __init__(self, agree: str, *, agreed: bool) -> None:
        self._agree, self._agreed = agree, agreed
        self._points = 0

    def __call__(self, now: CurvePoint) -> None:
        self._points += 1
        seconds = now.seconds_left or 0.0
        if self._points == 2 and seconds > DAY_SECONDS and not self._agreed:
            raise TrainingError(
                f"this run would take about {duration(seconds)} here, at {now.images_per_second:,.1f} images/s: "
                f"{self._agree} to run it anyway, or give it less time or images"
            )
