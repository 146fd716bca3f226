"""Schemas of requests for generate jobs and of answers about them."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from darkroom.app.generation.schemas import CLASS_DESCRIPTION, ClassReference, Seed, SettingsFields
from darkroom.app.jobs.schemas import FailureAnswer
from darkroom.model.images.archive import ArchiveFormat
from darkroom.store.job_forms import JobProvenance
from darkroom.store.tables import JobStatus


class GenerateJobRequest(SettingsFields):
    """What to draw: the same images as POST /generate draws for the same class, seed, number and settings.

    The job keeps the model version of the time when the request was accepted, also if another one is promoted later.
    """

    class_: ClassReference | Annotated[list[ClassReference], Field(min_length=1, max_length=1000)] | None = Field(
        None,
        alias="class",
        description=f"{CLASS_DESCRIPTION}; or a list of these; default: every class of the model",
    )
    n: int = Field(1, ge=1, description="images of each class")
    seed: Seed | None = Field(None, description="default: random; the answer has it")
    format: ArchiveFormat = Field("npz", description="zip: one PNG for each image, and manifest.json")
    priority: int = Field(0, ge=-100, le=100, description="jobs of higher priority run first")
    max_attempts: int = Field(
        3, ge=1, le=100, description="a shard fails after this many failed attempts in a row that stored no image"
    )
    shard_images: int = Field(2048, ge=1, le=1_000_000, description="images of one shard, which one worker draws")


class ShardsAnswer(BaseModel):
    """Number of shards in each status."""

    queued: int = 0
    running: int = 0
    cancelling: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class GenerateJobAnswer(JobProvenance):
    """A generate job."""

    status: JobStatus = Field(description="running until the result exists; cancelling until every worker has stopped")
    version_number: int
    format: ArchiveFormat
    images_done: int
    total_images: int
    shards: ShardsAnswer
    failure: FailureAnswer | None
    result: str | None = Field(description="address of the finished file; null before it exists")
    result_digest: str | None
    created_at: datetime


class GenerateJobsAnswer(BaseModel):
    """One page of generate jobs, newest first."""

    generate_jobs: list[GenerateJobAnswer]
    next_before: int | None = Field(description="pass as `before` for the next page; null on the last")
