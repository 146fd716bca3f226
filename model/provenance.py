"""The facts about drawn images. Together with the model's weights they reproduce the images."""

import secrets
from typing import Literal

from pydantic import ConfigDict, Field

from darkroom.model.config import Config, Quality, SamplingConfig

LARGEST_SEED = 2**63 - 1
LARGEST_INDEX = 2**31 - 1

RANDOM_SEED_BITS = 53
"""A random seed has at most this many bits, so that JavaScript holds it exactly."""


def random_seed() -> int:
    """Return a random seed for a request that names none."""
    return secrets.randbits(RANDOM_SEED_BITS)


class Choice(Config):
    """How sampler and steps were chosen. metric, value, protocol, guidance: of the measured point, null without one."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    by: Literal["quality", "deadline"] = Field(description="what decided: the request's quality or its deadline")
    quality: Quality | None = Field(description="which one; null where a deadline chose among measured points")
    from_: Literal["frontier", "defaults", "card"] = Field(
        alias="from",
        description="frontier: a measured point; defaults: documented settings, as no frontier is stored; card: the "
        "model's own settings",
    )
    network_evaluations: int = Field(description="network rows for each image")
    metric: str | None = None
    value: float | None = None
    guidance: float | None = Field(None, description="guidance at which the point was measured")
    protocol: str | None = Field(None, description="digest of the point's protocol")


class DrawnBy(Config):
    """The request or generate job that asked for the images, and the model that drew them."""

    id: int | str
    model: str
    version: str = Field(description="digest of the weights")


class Provenance(SamplingConfig, DrawnBy):
    """The facts that every answer and archive states of its images, in this order: DrawnBy's, settings, seed.

    Reading ignores members that only a newer service writes.
    """

    model_config = ConfigDict(extra="ignore", json_schema_serialization_defaults_required=True)

    seed: int
