"""Forecasts the distance at a training's end, from recorded runs, and corrects it with what the run itself measured.

The distance is the Fréchet distance that planned runs measure: unguided, in ten steps, EfficientNet-Lite0's features.
`python -m bench.plans fit` writes `curve.json` from the runs in `bench/results/plans.jsonl`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
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
LOWEST = 0.1
"""Share of a distance that is at least above that of the data set's own pictures: every run can get better."""
LITTLE_NOISE = 0.17
"""sigma / alpha at which the noise that a network leaves is measured: the cosine schedule's at a tenth of its steps."""


@dataclass(frozen=True)
class Measured:
    """A run after a share of it: its distance, and the share of a little noise that it leaves (see `noise_left`)."""

    share: float
    distance: float
    noise_left: float


@dataclass(frozen=True)
class Anchors:
    """Distances to a run's own data set: of the data set's own pictures, and of noise (`model/metrics/anchors.py`)."""

    own: float
    noise: float


class Correction(Config):
    """How runs went on after a share of them, at which they were measured.

    power, factor, exponent: as in `Curve.later`. spread: standard deviation of the logarithm of recorded runs of other
    data sets around the corrected forecast.
    """

    share: float
    power: float
    factor: float
    exponent: float
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

    def later(self, now: Measured, anchors: Anchors, times: float, how: Correction) -> float:
        """Return the distance of a run after `times` as many images as it had when it was measured.

        What a distance is above that of the data set's own pictures falls as on the curve, with the distance of noise
        in place of the curve's. The nearer it is to that, the less it says. The noise that is left tells then how soon
        it falls.
        """
        above, near = self.place(now.distance, anchors)
        falls = above / near / (1.0 + (1.0 / near - 1.0) * times**how.power)
        return now.distance - above + float(falls * (how.factor * now.noise_left**how.exponent) ** near)

    def place(self, distance: float, anchors: Anchors) -> tuple[float, float]:
        """Return how much a distance is above that of the data set's own pictures, and that as a share of noise's.

        The share is at most `highest`. No distance counts as less than LOWEST of itself.
        """
        above = max(distance - anchors.own, LOWEST * distance)
        return above, min(above / max(anchors.noise - anchors.own, LOWEST * anchors.noise), self.highest)


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


def corrected_forecast(now: Measured, anchors: Anchors) -> Forecast:
    """Return the forecast of a run that has been measured.

    How runs go on comes from the recorded ones at that share, with a straight line in the share's logarithm between
    those.
    """
    how = _between(curve().corrections, now.share)

    def later(times: float) -> float:
        return curve().later(now, anchors, times, how)

    return _within(later(1.0 / now.share), later(2.0 / now.share), how.spread)


def noise_left(error: float, alpha: float, sigma: float) -> float:
    """Return the share of the noise in x = alpha x_0 + sigma eps that a network leaves in its estimate of x_0.

    error: the mean squared error of the estimate.
    """
    return float(error * (alpha / sigma) ** 2)


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
    """Return the correction at a share: that of the first one before it, and at the end none but the distance."""
    end = corrections[-1].model_copy(update={"share": 1.0, "factor": 1.0, "exponent": 0.0})
    share = min(max(share, corrections[0].share), 1.0)
    below, above = next(
        (below, above) for below, above in pairwise([*corrections, end]) if below.share <= share <= above.share
    )
    part = math.log(share / below.share) / math.log(above.share / below.share)
    mixed = {
        field: (1.0 - part) * getattr(below, field) + part * getattr(above, field)
        for field in ("power", "factor", "exponent", "spread")
    }
    return Correction(share=share, **mixed)


def _rounded(distance: float) -> str:
    """Return a distance with two digits: a forecast has no more."""
    size = 10 ** max(0, math.floor(math.log10(distance)) - 1)
    return f"{round(distance / size) * size:,.0f}"
