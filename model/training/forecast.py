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


HIGHEST = 0.97
"""Share of `Curve.noise` that a measured distance counts as at most: above, it says nothing of the images needed."""


class Correction(Config):
    """What a distance measured after a share of the run says of the distance at its end.

    weight: of the run's own `half`, in logarithms, in place of the curve's. spread: standard deviation of the logarithm
    of recorded runs of other data sets around the corrected forecast.
    """

    share: float
    weight: float
    spread: float


class Curve(Config):
    """distance = noise / (1 + (x / half)^power), where x is the number of images seen for each value of a picture.

    Easy data sets have a smaller `half` of their own, and difficult ones a larger one. spread: standard deviation of
    the logarithm of recorded runs of other data sets around the curve.
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
        """Return the x at which the curve reaches a distance. From HIGHEST of `noise` on, all are the same."""
        return float(self.half * (self.noise / min(distance, HIGHEST * self.noise) - 1.0) ** (1.0 / self.power))

    def corrected(self, x: float, distance: float, weight: float) -> "Curve":
        """Return the curve of a run that has a distance after x images for each value of a picture.

        weight: 1 takes the `half` that the run shows, and 0 the curve's.
        """
        return self.model_copy(update={"half": self.half * (x / self.images(distance)) ** weight})


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
    if not measured:
        return expected_at(recipe, 1.0)
    share, distance = max(measured)
    correction = _between(curve().corrections, share)
    own = curve().corrected(_seen(recipe, share), distance, correction.weight)
    return _around(own, _seen(recipe, 1.0), correction.spread)


def plain_verdict(images_seen: int, findings: Sequence[Finding], expected: Forecast | None) -> dict[str, Any]:
    """Return the form of a verdict in the database and in files."""
    return {
        "images_seen": images_seen,
        "findings": [finding.plain() for finding in findings],
        "forecast": None if expected is None else expected.plain(),
    }


def expected_at(recipe: Recipe, share: float) -> Forecast:
    """Return the distance that recorded runs had after a share of a run like this one."""
    return _around(curve(), _seen(recipe, share), curve().spread)


def _seen(recipe: Recipe, share: float) -> float:
    """Return the images that a run has seen after a share of it, for each value of a picture."""
    return share * recipe.training.total_images / values(recipe.model)


def recognisable_images(model: ModelConfig) -> int:
    """Return how many images a run should see before its pictures can be recognised."""
    return math.ceil(curve().images(RECOGNISABLE) * values(model))


def _around(one: Curve, x: float, spread: float) -> Forecast:
    """Return the forecast after x images for each value of a picture."""
    distance, factor = one.distance(x), math.exp(SURE * spread)
    return Forecast(distance, distance / factor, distance * factor, one.distance(2.0 * x))


def _between(corrections: Sequence[Correction], share: float) -> Correction:
    """Return the correction at a share: that of the nearest one outside the recorded shares."""
    share = min(max(share, corrections[0].share), corrections[-1].share)
    above = next(one for one in corrections if one.share >= share)
    below = max((one for one in corrections if one.share <= share), key=lambda one: one.share)
    if above is below:
        return above
    part = math.log(share / below.share) / math.log(above.share / below.share)
    weight, spread = (
        (1.0 - part) * getattr(below, field) + part * getattr(above, field) for field in ("weight", "spread")
    )
    return Correction(share=share, weight=weight, spread=spread)


def _rounded(distance: float) -> str:
    """Return a distance with two digits: a forecast has no more."""
    size = 10 ** max(0, math.floor(math.log10(distance)) - 1)
    return f"{round(distance / size) * size:,.0f}"
