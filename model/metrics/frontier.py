"""A checkpoint's frontier: the measured quality of each sampler at each step count, and the choice of settings by it.

A point is an evaluation. Points belong to one frontier when their protocols differ only in the sampler's settings
(SAMPLER_SETTINGS). Guidance, threshold, number of images and data set are then the same, and values can be compared.
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
from darkroom.model.sampling.guidance import network_rows_left

WITHIN: Mapping[Quality, float] = MappingProxyType({"fast": 1.25, "balanced": 1.05, "best": 1.0})
"""A quality means the cheapest point whose value is at most this many times the frontier's lowest value.

A Fréchet distance from few images is too large, by an amount that hardly depends on the sampler (Chong & Forsyth 2020).
All points then look near the best, so measure a frontier with some thousands of images.
"""

FEWEST_POINTS = 2
"""Fewest points of a frontier: one alone leaves no choice."""

_METRIC_PREFIX = "fid-"


@dataclass(frozen=True)
class FrontierPoint:
    """Measured sampling settings. picked_by: the qualities that choose this point.

    protocol_digest: of the whole protocol, with the sampler's settings.
    """

    sampler: SamplerName
    steps: int
    spacing: SpacingName
    eta: float
    variance: VarianceName
    network_evaluations: Annotated[int, Field(description="network rows for each image")]
    value: Annotated[float, Field(description="lower is better")]
    protocol_digest: str
    picked_by: tuple[Quality, ...]

    @classmethod
    def of(cls, sampling: SamplingConfig, cost: int, value: float, digest: str) -> Self:
        """Make the point of these settings and of a protocol with this digest; no quality picks it yet."""
        settings = sampling.model_dump(include=set(SAMPLER_SETTINGS))
        return cls(**settings, network_evaluations=cost, value=value, protocol_digest=digest, picked_by=())

    def applied_to(self, sampling: SamplingConfig) -> SamplingConfig:
        """Return `sampling` with the sampler's settings of this point."""
        return sampling.model_copy(update={name: getattr(self, name) for name in SAMPLER_SETTINGS})


@dataclass(frozen=True)
class Frontier:
    """Points whose values can be compared, cheapest first. protocol: their common facts, also guidance and images."""

    metric: str
    guidance: float
    images: int
    protocol: Facts
    points: tuple[FrontierPoint, ...]


def frontiers(evaluations: Iterable[Figure], schedule: ScheduleConfig) -> tuple[Frontier, ...]:
    """Group a checkpoint's evaluations into frontiers; the order of evaluations does not matter.

    It leaves out figures of other metrics than the Fréchet distance, and protocols with unknown settings.
    schedule: the model's.
    """
    groups: dict[str, tuple[Figure, dict[str, FrontierPoint]]] = {}
    for one in evaluations:
        sampling = _sampling(one.protocol)
        if sampling is None or not one.metric.startswith(_METRIC_PREFIX):
            continue
        try:
            cost = network_evaluations(schedule, sampling)
        except ValueError:  # the schedule does not have that many steps
            continue
        _, points = groups.setdefault(protocol_digest(_common(one.protocol)), (one, {}))
        digest = one.protocol_digest
        points[digest] = FrontierPoint.of(sampling, cost, one.value, digest)
    found = [_frontier(first, points.values()) for first, points in groups.values() if len(points) >= FEWEST_POINTS]
    return tuple(sorted(found, key=lambda frontier: (-frontier.images, protocol_digest(frontier.protocol))))


def nearest_frontier(found: Sequence[Frontier], guidance: float) -> Frontier | None:
    """Return the frontier measured at the nearest guidance; on a tie that of more images, then of more points."""
    return min(
        found, key=lambda one: (abs(one.guidance - guidance), -one.images, -len(one.points), one.metric), default=None
    )


def efficient(points: Iterable[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """Return the points that no other point beats in both cost and value, cheapest first."""
    kept: list[FrontierPoint] = []
    for point in sorted(points, key=_by_cost):
        if not kept or point.value < kept[-1].value:
            kept.append(point)
    return tuple(kept)


def choose(points: Collection[FrontierPoint], quality: Quality) -> FrontierPoint:
    """Return the cheapest point whose value is at most WITHIN[quality] times the lowest. points: of one frontier."""
    lowest = min(point.value for point in points)
    limit = max(lowest, WITHIN[quality] * lowest)  # rounding may turn a distance of zero slightly negative
    return min((point for point in points if point.value <= limit), key=_by_cost)


def network_evaluations(schedule: ScheduleConfig, sampling: SamplingConfig) -> int:
    """Return the network rows that an image costs; raises ValueError for steps that the schedule does not have."""
    return network_rows_left(schedule, sampling, 1.0 if sampling.unconditional else sampling.guidance)[0]


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
    """Return the settings that a protocol names, others at their defaults; None when some are unknown."""
    if any(protocol.get(name) is None for name in ("sampler", "steps", "guidance")):
        return None
    named = {name: protocol[name] for name in SamplingConfig.model_fields if protocol.get(name) is not None}
    try:
        return SamplingConfig.model_validate({name: _plain(value) for name, value in named.items()})
    except ValidationError:
        return None


def _plain(value: object) -> object:
    """Return the plain data of a fact: the inverse of `model.protocol.canonical`."""
    return json.loads(value) if isinstance(value, str) and value.startswith(("[", "{")) else value
