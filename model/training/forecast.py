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
"""Share of `Curve.noise` that a distance counts as at most: above, it says nothing of the images needed."""


class Correction(Config):
    """How runs went on after a share of them, at which their distance was measured.

    power: as in `Curve.later`. spread: standard deviation of the logarithm of recorded runs of other data sets around
    the corrected forecast.
    """

    share: float
    power: float
    spread: float


class Curve(Config):
    """distance = noise / (1 + (x / half)^power), where x is the number of images seen for each value of a picture.

    Easy data sets have a smaller `half` of their own, and difficult ones a larger one.

    spread: standard deviation of the logarithm of recorded runs of other data sets around the curve.

    highest: share of the distance of noise that a measured one counts as at most. Every run goes on to fall.
    """

    noise: float
    half: float
    power: float
    spread: float
    highest: float
    corrections: tuple[Correction, ...]

    def distance(self, x: float) -> float:
        """Return the expected distance after x images for each value of a picture."""
        return float(self.noise / (1.0 + (x / self.half) ** self.power))

    def images(self, distance: float) -> float:
        """Return the x at which the curve reaches a distance. From HIGHEST of `noise` on, all are the same."""
        return float(self.half * (self.noise / min(distance, HIGHEST * self.noise) - 1.0) ** (1.0 / self.power))

    def later(self, distance: float, noise: float, times: float, power: float) -> float:
        """Return the distance of a run after `times` as many images as it had at a measured distance.

        noise: the distance of pictures of noise to the run's own data set, which takes the place of the curve's.
        """
        start = max(noise, distance / self.highest)
        return float(start / (1.0 + (start / distance - 1.0) * times**power))


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


def forecast(recipe: Recipe) -> Forecast:
    """Return the forecast of a run before its start."""
    return expected_at(recipe, 1.0)


def corrected_forecast(measured: tuple[float, float], noise: float) -> Forecast:
    """Return the forecast of a run that has been measured. measured: a share of the run, and the distance then.

    noise: the distance of pictures of noise to the run's data set. How runs go on comes from the recorded ones at that
    share, with a straight line in the share's logarithm between those.
    """
    share, distance = measured
    now = _between(curve().corrections, share)

    def later(times: float) -> float:
        return curve().later(distance, noise, times, now.power)

    return _within(later(1.0 / share), later(2.0 / share), now.spread)


def plain_verdict(images_seen: int, findings: Sequence[Finding], expected: Forecast | None) -> dict[str, Any]:
    """Return the form of a verdict in the database and in files."""
    return {
        "images_seen": images_seen,
        "findings": [finding.plain() for finding in findings],
        "forecast": None if expected is None else expected.plain(),
    }


def expected_at(recipe: Recipe, share: float) -> Forecast:
    """Return the distance that recorded runs had after a share of a run like this one."""
    x = share * recipe.training.total_images / values(recipe.model)
    return _within(curve().distance(x), curve().distance(2.0 * x), curve().spread)


def recognisable_images(model: ModelConfig) -> int:
    """Return how many images a run should see before its pictures can be recognised."""
    return math.ceil(curve().images(RECOGNISABLE) * values(model))


def _within(distance: float, doubled: float, spread: float) -> Forecast:
    factor = math.exp(SURE * spread)
    return Forecast(distance, distance / factor, distance * factor, doubled)


def _between(corrections: Sequence[Correction], share: float) -> Correction:
    """Return the correction at a share: that of the nearest one outside the recorded shares."""
    share = min(max(share, corrections[0].share), corrections[-1].share)
    above = next(one for one in corrections if one.share >= share)
    below = max((one for one in corrections if one.share <= share), key=lambda one: one.share)
    if above is below:
        return above
    part = math.log(share / below.share) / math.log(above.share / below.share)
    power, spread = (
        (1.0 - part) * getattr(below, field) + part * getattr(above, field) for field in ("power", "spread")
    )
    return Correction(share=share, power=power, spread=spread)


def _rounded(distance: float) -> str:
    """Return a distance with two digits: a forecast has no more."""
    size = 10 ** max(0, math.floor(math.log10(distance)) - 1)
    return f"{round(distance / size) * size:,.0f}"
