"""The facts about drawn images. Together with the model's weights they make the images again."""

from typing import Literal

from pydantic import ConfigDict, Field

from darkroom.model.config import Config, Quality, SamplingConfig


class Choice(Config):
    """How sampler and steps were picked. metric, value, protocol, guidance: of the measured point, null without one."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    by: Literal["quality", "deadline"] = Field(description="what the request left the choice to")
    quality: Quality | None = Field(description="which one; null where a deadline decided among measured points")
    from_: Literal["frontier", "defaults", "card"] = Field(
        alias="from",
        description="measured; or documented defaults, as no frontier is stored; or the model card's settings",
    )
    network_evaluations: int = Field(description="forward rows of the network an image")
    metric: str | None = None
    value: float | None = None
    guidance: float | None = Field(None, description="that the point was measured at")
    protocol: str | None = Field(None, description="digest of the point's protocol")


class DrawnBy(Config):
    """Which request or generate job had the images drawn, and by which model."""

    id: int | str
    model: str
    version: str = Field(description="digest of the weights")


class Provenance(SamplingConfig, DrawnBy):
    """What every answer and archive tells of its images. The members stand in this order: DrawnBy's, settings, seed.

    A member that a newer service tells is ignored.
    """

    model_config = ConfigDict(extra="ignore", json_schema_serialization_defaults_required=True)

    seed: int
