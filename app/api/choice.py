"""Sampler and steps for requests that say how good or how soon instead: picked from the version's measured frontier."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.catalog import Version
from model.config import SamplerName, SamplingConfig
from model.metrics.frontier import (
    SAMPLER_SETTINGS,
    Frontier,
    FrontierPoint,
    Quality,
    choose,
    efficient,
    nearest_frontier,
    network_evaluations,
)

DEFAULTS: Mapping[Quality, tuple[SamplerName, int]] = MappingProxyType(
    {"fast": ("unipc", 10), "balanced": ("dpmpp_2m", 20), "best": ("dpmpp_2m", 50)}
)
"""Sampler and steps where no frontier was measured: at which step counts the samplers' authors see little change any
more (Zhao et al. 2023, table 2; Lu et al. 2022b, section 7)."""

DEADLINE_SHARE = 0.8
"""Of a deadline, what settings may be expected to take: requests that arrive later have their share of the device."""

QUALITY_DESCRIPTION = (
    "picks sampler and steps from the frontier that was measured of the version (GET /v1/models/NAME shows it), at the "
    "guidance nearest to the request's: best is the lowest distance; balanced and fast take the fewest network "
    "evaluations within 1.05 and 1.25 times that. Without a frontier: unipc with 10 steps, dpmpp_2m with 20, dpmpp_2m "
    f"with 50. The answer's `choice` tells. Not together with {', '.join(SAMPLER_SETTINGS)}"
)
DEADLINE_DESCRIPTION = (
    "refused at once when it cannot be met. A request that names none of quality, "
    f"{', '.join(SAMPLER_SETTINGS)} gets the best settings on the version's frontier that the measured speed says can "
    f"be met in {DEADLINE_SHARE:.0%} of it; without a frontier the model card's, else those that quality means then"
)


class ChoiceAnswer(BaseModel):
    """How sampler and steps were picked. metric, value, protocol, guidance: of the measured point, null without one."""

    by: Literal["quality", "deadline"] = Field(description="what the request left the choice to")
    quality: Quality | None = Field(description="which one; null where a deadline decided among measured points")
    from_: Literal["frontier", "defaults", "card"] = Field(
        serialization_alias="from",
        validation_alias="from",
        description="measured; or documented defaults, as no frontier is stored; or the model card's settings",
    )
    network_evaluations: int = Field(description="forward rows of the network an image")
    metric: str | None = None
    value: float | None = None
    guidance: float | None = Field(None, description="that the point was measured at")
    protocol: str | None = Field(None, description="digest of the point's protocol")


@dataclass(frozen=True)
class Chosen:
    """Settings to draw with, and how they were picked; choice is None when nothing was left to choose."""

    sampling: SamplingConfig
    choice: ChoiceAnswer | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The member of the answer."""
        return {"choice": None if self.choice is None else self.choice.model_dump(by_alias=True)}


def choose_by_quality(
    version: Version,
    sampling: SamplingConfig,
    quality: Quality,
    usable: Callable[[SamplingConfig], bool] = lambda sampling: True,
) -> Chosen:
    """What `quality` means for this version. sampling: all other settings; usable: settings the request can take."""
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
    """The best settings that `fits` says can be met, else the fastest."""
    frontier, points = _usable_points(version, sampling, usable)
    if frontier is not None and points:
        offers = [_of_point(frontier, point, sampling, "deadline", None) for point in reversed(efficient(points))]
    else:
        qualities: tuple[Quality, ...] = ("best", "balanced", "fast")
        offers = [_of_defaults(version, sampling, quality, "deadline") for quality in qualities]
        card = _of_card(version, sampling)
        offers = [card, *(one for one in offers if _cost(one) < _cost(card))]
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
    told = {
        "by": by,
        "quality": quality,
        "from": "frontier",
        "network_evaluations": point.network_evaluations,
        "metric": frontier.metric,
        "value": point.value,
        "guidance": frontier.guidance,
        "protocol": point.protocol_digest,
    }
    return Chosen(point.applied_to(sampling), ChoiceAnswer.model_validate(told))


def _of_card(version: Version, sampling: SamplingConfig) -> Chosen:
    cost = network_evaluations(version.header.model.schedule, sampling)
    told = {"by": "deadline", "quality": None, "from": "card", "network_evaluations": cost}
    return Chosen(sampling, ChoiceAnswer.model_validate(told))


def _of_defaults(
    version: Version, sampling: SamplingConfig, quality: Quality, by: Literal["quality", "deadline"]
) -> Chosen:
    schedule = version.header.model.schedule
    sampler, steps = DEFAULTS[quality]
    update = {"sampler": sampler, "steps": min(steps, schedule.steps), "spacing": "trailing"}
    chosen = sampling.model_copy(update=update)
    told = {
        "by": by,
        "quality": quality,
        "from": "defaults",
        "network_evaluations": network_evaluations(schedule, chosen),
    }
    return Chosen(chosen, ChoiceAnswer.model_validate(told))
