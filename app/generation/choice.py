"""Picks sampler and steps from a version's measured frontier, for requests that name a quality or a deadline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from darkroom.app.versions.version import Version
from darkroom.model.config import Quality, SamplerName, SamplingConfig
from darkroom.model.metrics.frontier import (
    Frontier,
    FrontierPoint,
    choose,
    efficient,
    nearest_frontier,
    network_evaluations,
)
from darkroom.model.provenance import Choice

DEFAULTS: Mapping[Quality, tuple[SamplerName, int]] = MappingProxyType(
    {"fast": ("unipc", 10), "balanced": ("dpmpp_2m", 20), "best": ("dpmpp_2m", 50)}
)
"""Sampler and steps for a version without a measured frontier. More steps change little, as the samplers' authors
measured (Zhao et al. 2023, table 2; Lu et al. 2022b, section 7)."""


@dataclass(frozen=True)
class Chosen:
    """Settings to draw with, and how they were picked. choice: None when the request left nothing to choose."""

    sampling: SamplingConfig
    choice: Choice | None = None


def choose_by_quality(
    version: Version,
    sampling: SamplingConfig,
    quality: Quality,
    usable: Callable[[SamplingConfig], bool] = lambda sampling: True,
) -> Chosen:
    """Return the settings that `quality` means for this version.

    sampling: all other settings; usable: returns True for settings that suit the request.
    """
    frontier, points = _usable_points(version, sampling, usable)
    if frontier is not None and points:
        return _of_point(frontier, choose(points, quality), sampling, "quality", quality)
    return _of_defaults(version, sampling, quality, "quality")


def choose_by_deadline(
    version: Version,
    sampling: SamplingConfig,
    fits: Callable[[SamplingConfig], bool],
    usable: Callable[[SamplingConfig], bool] = lambda sampling: True,
) -> Chosen:
    """Return the best settings that fit the deadline, else the fastest. fits, usable: return True for such settings."""
    frontier, points = _usable_points(version, sampling, usable)
    if frontier is not None and points:
        offers = [_of_point(frontier, point, sampling, "deadline", None) for point in reversed(efficient(points))]
    else:
        qualities: tuple[Quality, ...] = ("best", "balanced", "fast")
        offers = [_of_defaults(version, sampling, quality, "deadline") for quality in qualities]
        own = _of_own_settings(version, sampling)
        offers = [own, *(one for one in offers if _cost(one) < _cost(own))]
    return next((one for one in offers if fits(one.sampling)), offers[-1])


def _cost(chosen: Chosen) -> int:
    assert chosen.choice is not None
    return chosen.choice.network_evaluations


def _usable_points(
    version: Version, sampling: SamplingConfig, usable: Callable[[SamplingConfig], bool]
) -> tuple[Frontier | None, list[FrontierPoint]]:
    frontier = nearest_frontier(version.frontiers, sampling.guidance)
    return frontier, [p for p in frontier.points if usable(p.applied_to(sampling))] if frontier else []


def _of_point(
    frontier: Frontier,
    point: FrontierPoint,
    sampling: SamplingConfig,
    by: Literal["quality", "deadline"],
    quality: Quality | None,
) -> Chosen:
    choice = Choice(
        by=by,
        quality=quality,
        from_="frontier",
        network_evaluations=point.network_evaluations,
        metric=frontier.metric,
        value=point.value,
        guidance=frontier.guidance,
        protocol=point.protocol_digest,
    )
    return Chosen(point.applied_to(sampling), choice)


def _of_own_settings(version: Version, sampling: SamplingConfig) -> Chosen:
    cost = network_evaluations(version.header.model.schedule, sampling)
    return Chosen(sampling, Choice(by="deadline", quality=None, from_="card", network_evaluations=cost))


def _of_defaults(
    version: Version, sampling: SamplingConfig, quality: Quality, by: Literal["quality", "deadline"]
) -> Chosen:
    schedule = version.header.model.schedule
    sampler, steps = DEFAULTS[quality]
    update = {"sampler": sampler, "steps": min(steps, schedule.steps), "spacing": "trailing"}
    chosen = sampling.model_copy(update=update)
    cost = network_evaluations(schedule, chosen)
    return Chosen(chosen, Choice(by=by, quality=quality, from_="defaults", network_evaluations=cost))
