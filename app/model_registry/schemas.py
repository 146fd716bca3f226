"""The fields of requests and answers about models."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from darkroom.app.jobs.schemas import VerdictAnswer
from darkroom.model.config import Recipe, SamplingConfig
from darkroom.model.metrics.frontier import Frontier
from darkroom.store.model_repository import AliasTarget

LARGEST_VERSION = 2**31 - 1

ModelName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]

Number = Annotated[int, Field(strict=True, ge=1, le=LARGEST_VERSION)]


class ShareRequest(BaseModel):
    """A model's new owner: nobody."""

    model_config = ConfigDict(extra="forbid")

    shared: Literal[True] = Field(description="every key may use it from now on; only a new model has an owner again")


class AliasRequest(BaseModel):
    """The new target of an alias."""

    model_config = ConfigDict(extra="forbid")

    version: Number | Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|[a-z][a-z0-9._-]{0,62})$")] = Field(
        description="a version's number, its digest, or another alias"
    )


class VersionFigure(BaseModel):
    """A figure of a version.

    protocol_string: how it was measured, and on what. Only figures with equal protocols can be compared.
    """

    model_config = ConfigDict(from_attributes=True)

    metric: str
    value: float
    protocol_digest: str
    protocol_string: str


class VersionAnswer(BaseModel):
    """One version of a model. metrics: the figures of its evaluations, and those that its weights file contains."""

    version: int
    digest: str
    source: str
    created_at: datetime
    size_bytes: int
    images_seen: int
    class_names: list[str]
    metrics: dict[str, float]
    evaluations: list[VersionFigure] = Field(description="the figures that this service measured, with their protocols")
    verdict: VerdictAnswer | None = Field(description="the early verdict of its training; null without one")
    little_training: str | None = Field(description="why it saw too little training to be good; null if it saw enough")
    kept: bool = Field(description="its weights are in the store; a train job keeps only some of its checkpoints")
    keep: bool = Field(description="marked: its weights and training state stay until the mark is taken off")
    resident: bool = Field(description="the engine has it in memory now")
    frontiers: Sequence[Frontier] = Field(
        description="the measured settings that `quality` and deadlines choose from; empty before a measurement"
    )


class VersionDetailAnswer(VersionAnswer):
    """One version with what its weights file says of it: null when its weights are no longer kept."""

    image_size: int | None = Field(None, description="height and width of its images in pixels")
    image_channels: int | None = Field(None, description="1: grey, 3: colour")
    parameters: int | None = Field(None, description="numbers in the network that draws; a snapshot has its own")
    default_sampling: SamplingConfig | None = Field(None, description="the settings that a request leaves out")
    recipe: Recipe | None = Field(None, description="how it was trained")
    undrawn: list[str] = Field([], description="the classes without training images, which it does not draw")


class ModelAnswer(BaseModel):
    """A model. class_names, default_sampling, snapshot_images: from its production version, null until it is loaded."""

    name: str
    created_at: datetime
    versions: int
    aliases: Mapping[str, AliasTarget]
    resident: list[str] = Field(description="digests of its versions in the engine's memory")
    class_names: list[str] | None = None
    default_sampling: SamplingConfig | None = None
    snapshot_images: int | None = Field(
        None,
        description="images that the snapshot for guide `snapshot` had seen; null if the version has no snapshot",
    )


class ModelDetailAnswer(ModelAnswer):
    """A model with one page of its versions."""

    newest: list[VersionAnswer] = Field(description="versions below `before`, newest first")
    next_before: int | None = Field(description="pass as `before` for the next page; null on the last")


class ModelsAnswer(BaseModel):
    """One page of models."""

    models: list[ModelAnswer]
    default_model: str | None = Field(description="the model of requests that name none; null when there is none")
    request_images: int = Field(description="the most images that one POST /generate may draw, all classes together")
    next_after: str | None = Field(description="pass as `after` for the next page; null on the last")
