"""A checkpoint's frontier: how good each sampler is at how many steps, as measured, and what to draw with therefore.

A point is an evaluation. Points belong to one frontier when their protocols are equal but for the settings that are the
sampler's own; so guidance, threshold, number of images and data set are the same, and the values compare.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import Field, ValidationError

from darkroom.model.config import (
    SAMPLER_SETTINGS,
    Quality,
    SamplerName,
    SamplingConfig,
    ScheduleConfig,
    SpacingName,
    VarianceName,
)
from darkroom.model.figure import Figure
from darkroom.model.protocol import Facts, protocol_digest
from darkroom.model.sampling.guidance import forward_rows_left

WITHIN: Mapping[Quality, float] = MappingProxyType({"fast": 1.25, "balanced": 1.05, "best": 1.0})
"""A quality is the cheapest point whose value is at most so many times the frontier's lowest one.

Of few images a Frechet distance is too large by an amount that hardly depends on the sampler (Chong & Forsyth 2020),
and then everything seems near the best: a frontier wants some thousands.
"""

FEWEST_POINTS = 2
"""A single evaluation leaves nothing to choose."""

_METRIC_PREFIX = "fid-"


@dataclass(frozen=True)
class FrontierPoint:
    """A measured way to draw. picked_by: the qualities that mean this point, where guidance is near the frontier's.

    protocol_digest: of the whole protocol, the sampler's settings included.
    """

    sampler: SamplerName
    steps: int
    spacing: SpacingName
    eta: float
    variance: VarianceName
    network_evaluations: Annotated[int, Field(description="forward rows of the network an image")]
    value: Annotated[float, Field(description="less is better")]
    protocol_digest: str
    picked_by: tuple[Quality, ...]

    @classmethod
    def of(cls, sampling: SamplingConfig, cost: int, value: float, digest: str) -> Self:
        """The point of these settings and of a protocol with this digest, as yet picked by no quality."""
        settings = sampling.model_dump(include=set(SAMPLER_SETTINGS))
        return cls(**settings, network_evaluations=cost, value=value, protocol_digest=digest, picked_by=())

    def applied_to(self, sampling: SamplingConfig) -> SamplingConfig:
        """`sampling` with the sampler's settings of this point."""
        return sampling.model_copy(update={name: getattr(self, name) for name in SAMPLER_SETTINGS})


@dataclass(frozen=True)
class Frontier:
    """Points that compare, cheapest first. protocol: what they have in common; guidance and images are two of it."""

    metric: str
    guidance: float
    images: int
    protocol: Facts
    points: tuple[FrontierPoint, ...]


def frontiers(evaluations: Iterable[Figure], schedule: ScheduleConfig) -> tuple[Frontier, ...]:
    """The frontiers that a checkpoint's evaluations make; the order of evaluations does not matter.

    Figures of other metrics than a Frechet distance, and protocols that name settings which are not known here, are
    left out. schedule: the model's.
    """
    groups: dict[str, tuple[Figure, dict[str, FrontierPoint]]] = {}
    for one in evaluations:
        sampling = _sampling(one.protocol)
        if sampling is None or not one.metric.startswith(_METRIC_PREFIX):
            continue
        try:
            cost = network_evaluations(schedule, sampling)
        except ValueError:  # steps that this schedule does not have
            continue
        _, points = groups.setdefault(protocol_digest(_common(one.protocol)), (one, {}))
        digest = one.protocol_digest
        points[digest] = FrontierPoint.of(sampling, cost, one.value, digest)
    found = [_frontier(first, points.values()) for first, points in groups.values() if len(points) >= FEWEST_POINTS]
    return tuple(sorted(found, key=lambda frontier: (-frontier.images, protocol_digest(frontier.protocol))))


def nearest_frontier(found: Sequence[Frontier], guidance: float) -> Frontier | None:
    """The one that was measured at the nearest guidance; of several the one of more images, then of more points."""
    return min(
        found, key=lambda one: (abs(one.guidance - guidance), -one.images, -len(one.points), one.metric), default=None
    )


def efficient(points: Iterable[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """The points that no other one beats in both cost and value, cheapest first: from the worst value to the best."""
    kept: list[FrontierPoint] = []
    for point in sorted(points, key=_by_cost):
        if not kept or point.value < kept[-1].value:
            kept.append(point)
    return tuple(kept)


def choose(points: Collection[FrontierPoint], quality: Quality) -> FrontierPoint:
    """The cheapest point whose value is within WITHIN[quality] times the lowest. points: of a frontier, not empty."""
    lowest = min(point.value for point in points)
    limit = max(lowest, WITHIN[quality] * lowest)  # rounding may leave a distance of zero a little negative
    return min((point for point in points if point.value <= limit), key=_by_cost)


def network_evaluations(schedule: ScheduleConfig, sampling: SamplingConfig) -> int:
    """Forward rows of the network that an image takes; raises ValueError for steps that the schedule does not have."""
    return forward_rows_left(schedule, sampling, 1.0 if sampling.unconditional else sampling.guidance)[0]


def _by_cost(point: FrontierPoint) -> tuple[int, float, str]:
    return point.network_evaluations, point.value, point.protocol_digest


def _frontier(first: Figure, points: Collection[FrontierPoint]) -> Frontier:
    protocol = _common(first.protocol)
    guidance, images = protocol.get("guidance"), protocol.get("images")
    assert isinstance(guidance, int | float)
    picked = {quality: choose(points, quality) for quality in WITHIN}
    return Frontier(
        first.metric,
        float(guidance),
        images if isinstance(images, int) else 0,
        protocol,
        tuple(
            replace(point, picked_by=tuple(quality for quality, one in picked.items() if one == point))
            for point in sorted(points, key=_by_cost)
        ),
    )


def _common(protocol: Facts) -> dict[str, str | int | float | None]:
    return {name: value for name, value in protocol.items() if name not in SAMPLER_SETTINGS}


def _sampling(protocol: Facts) -> SamplingConfig | None:
    """The settings that a protocol names; what has no effect takes its default. None when they are not all known."""
    if any(protocol.get(name) is None for name in ("sampler", "steps", "guidance")):
        return None
    named = {name: protocol[name] for name in SamplingConfig.model_fields if protocol.get(name) is not None}
    try:
        return SamplingConfig.model_validate({name: _plain(value) for name, value in named.items()})
    except ValidationError:
        return None


def _plain(value: object) -> object:
    """The inverse of `model.metrics.protocol.canonical`."""
    return json.loads(value) if isinstance(value, str) and value.startswith(("[", "{")) else value
