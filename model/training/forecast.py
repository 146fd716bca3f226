"""Forecasts the distance at a training's end, from recorded runs, and corrects it with what the run itself measured.

The distance is the Fréchet distance that planned runs measure: unguided, in ten steps, EfficientNet-Lite0's features.
`python -m bench.plans fit` writes `curve.json` from the runs in `bench/results/plans.jsonl`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from darkroom.model.config import Config, ModelConfig, Recipe
from darkroom.model.training.finding import Finding

CURVE = Path(__file__).with_name("curve.json")
METRIC = "fid-efficientnet-lite0"
SURE = 1.28
"""Standard deviations of a forecast's range: four of five runs end within it."""
RECOGNISABLE = 700.0
"""Distance below which the pictures of recorded runs could be recognised."""


class Correction(Config):
    """What a distance measured after a share of the run says of the distance at its end; all in logarithms.

    weight: of the measured distance's deviation from the curve. offset: of runs that lie on the curve.
    spread: standard deviation of recorded runs of other data sets around the corrected forecast.
    """

    share: float
    weight: float
    offset: float
    spread: float


class Curve(Config):
    """distance = noise / (1 + (x / half)^power), where x is the number of images seen for each value of a picture.

    spread: standard deviation of the logarithm of recorded runs of other data sets around the curve.
    """

    noise: float
    half: float
    power: float
    spread: float
    corrections: tuple[Correction, ...]

    def distance(self, x: float) -> float:
        """Return the expected distance after x images for each value of a picture."""
        return float(self.noise / (1.0 + (x / self.half) ** self.power))

    def images(self, distance: float) -> float:
        """Return the x at which the curve reaches a distance below `noise`."""
        return float(self.half * (self.noise / distance - 1.0) ** (1.0 / self.power))


@dataclass(frozen=True)
class Forecast:
    """The distance that a run is expected to end with. low, high: four of five runs end between them.

    doubled: the distance with twice the images.
    """

    distance: float
    low: float
    high: float
    doubled: float

    def plain(self) -> dict[str, Any]:
        """The form in the database and in files."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{_rounded(self.distance)} ({_rounded(self.low)} to {_rounded(self.high)})"

    @property
    def with_more(self) -> str:
        """What twice the images would bring, for people."""
        return _rounded(self.doubled)


@cache
def curve() -> Curve:
    """Return the fitted curve."""
    return Curve.model_validate_json(CURVE.read_bytes())


def values(model: ModelConfig) -> int:
    """Return how many values a picture has."""
    return model.image_channels * model.image_size**2


def forecast(recipe: Recipe, measured: Sequence[tuple[float, float]] = ()) -> Forecast:
    """Return the forecast of a run. measured: shares of the run and the distances then, in any order.

    The last measured distance corrects the forecast: its weight, and the range that is left, come from the recorded
    runs at that share, with a straight line in the share's logarithm between those.
    """
    usual = expected_at(recipe, 1.0)
    if not measured:
        return usual
    share, distance = max(measured)
    correction = _between(curve().corrections, share)
    deviation = math.log(distance / expected_at(recipe, share).distance)
    end = usual.distance * math.exp(correction.offset + correction.weight * deviation)
    return _around(end, correction.spread, usual.doubled / usual.distance)


def plain_verdict(images_seen: int, findings: Sequence[Finding], expected: Forecast | None) -> dict[str, Any]:
    """Return the form of a verdict in the database and in files."""
    return {
        "images_seen": images_seen,
        "findings": [finding.plain() for finding in findings],
        "forecast": None if expected is None else expected.plain(),
    }


def expected_at(recipe: Recipe, share: float) -> Forecast:
    """Return the distance that recorded runs had after a share of a run like this one."""
    fitted = curve()
    x = share * recipe.training.total_images / values(recipe.model)
    return _around(fitted.distance(x), fitted.spread, fitted.distance(2.0 * x) / fitted.distance(x))


def recognisable_images(model: ModelConfig) -> int:
    """Return how many images a run should see before its pictures can be recognised."""
    return math.ceil(curve().images(RECOGNISABLE) * values(model))


def _around(distance: float, spread: float, gain: float) -> Forecast:
    """Return the forecast of a distance. gain: what twice the images make of it."""
    factor = math.exp(SURE * spread)
    return Forecast(distance, distance / factor, distance * factor, distance * gain)


def _between(corrections: Sequence[Correction], share: float) -> Correction:
    """Return the correction at a share: that of the nearest one outside the recorded shares."""
    share = min(max(share, corrections[0].share), corrections[-1].share)
    above = next(one for one in corrections if one.share >= share)
    below = max((one for one in corrections if one.share <= share), key=lambda one: one.share)
    if above is below:
        return above
    part = math.log(share / below.share) / math.log(above.share / below.share)
    mixed = {
        field: (1.0 - part) * getattr(below, field) + part * getattr(above, field)
        for field in ("weight", "offset", "spread")
    }
    return Correction(share=share, **mixed)


def _rounded(distance: float) -> str:
    """Return a distance with two digits: a forecast has no more."""
    size = 10 ** max(0, math.floor(math.log10(distance)) - 1)
    return f"{round(distance / size) * size:,.0f}"
