"""The fields of requests for training and of answers about train jobs."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from darkroom.app.dependencies.paging import LARGEST_ID
from darkroom.app.jobs.schemas import FailureAnswer, VerdictAnswer
from darkroom.app.plans.schemas import Minutes
from darkroom.model.config import MOST_IMAGES, ModelName
from darkroom.store.job_views import BestCheckpoint
from darkroom.store.retention import Part
from darkroom.store.tables import Device, JobStatus, Promotion

Identifier = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
Images = Annotated[int, Field(strict=True, ge=1, le=MOST_IMAGES)]


class TrainFields(BaseModel):
    """The fields of every request for training. The recipe decides the fields that are left out."""

    model_config = ConfigDict(extra="forbid")

    recipe: ModelName | dict[StrictStr, Any] | None = Field(
        None,
        description="a recipe's name, or a whole configuration (`dataset` and `name` may be left out); required unless "
        "`from_job` is given",
    )
    overrides: dict[StrictStr, Any] = Field(
        {},
        max_length=100,
        description='new values for fields of the recipe, by dotted name: {"training.total_images": 200000}; a section '
        "given as an object changes only the fields that it names",
    )
    dataset: StrictStr | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="a registered data set's name; default: the registered data set that the recipe describes",
    )
    model: ModelName | None = Field(None, description="the model's name; default: the recipe's name")
    priority: Annotated[int, Field(strict=True)] = Field(
        0, ge=-100, le=100, description="jobs of higher priority run first"
    )
    device: Device = "auto"
    promote: Promotion = Field(
        "never",
        description="best: the best checkpoint becomes the model's production version; this needs the scope admin, "
        "like PUT /v1/models/NAME/alias/production",
    )
    max_attempts: Annotated[int, Field(strict=True)] = Field(
        3, ge=1, le=100, description="the job fails after this many failed attempts in a row without a new checkpoint"
    )
    keep_last: Annotated[int, Field(strict=True)] = Field(
        3, ge=1, le=1000, description="newest checkpoints to keep, besides the best one and those with an alias"
    )
    long: bool = Field(
        False, strict=True, description="confirms that the job, or all jobs of a sweep, may run for more than a day"
    )
    evaluate_every_images: Images | None = Field(None, description="replaces the recipe's evaluation.every_images")
    from_job: Identifier | None = Field(
        None,
        description="continue from this job's training state; the data set, `optimizer.name` and the recipe's `model` "
        "(except dropout) must be the same as that job's",
    )
    images_seen: Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)] | None = Field(
        None, description="only with from_job: the kept state after this many images; default: the newest"
    )
    from_model: StrictStr | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}@[A-Za-z0-9:._-]{1,80}$",
        description="begin with the weights of NAME@NUMBER, NAME@ALIAS or NAME@sha256:...; the recipe's `model` must "
        "be the same (except dropout); classes are matched by name if both have the same names, else by index",
    )


class TrainJobRequest(TrainFields):
    """One training job: by a recipe, or planned from `dataset` and `minutes`."""

    minutes: Minutes | None = Field(
        None,
        description="plan the whole recipe for this time (GET /plan shows it), in place of `recipe`, `from_job` and "
        "`from_model`; the model is named after the data set, and `promote` is best where the caller may promote",
    )


class ProgressAnswer(BaseModel):
    """A job's progress. loss, images_per_second: from the newest curve point, null before the first one."""

    images_done: int
    total_images: int
    images_per_second: float | None
    loss: float | None
    eta_seconds: float | None = Field(description="expected seconds of training left; null unless the job runs")


class RemovedAnswer(BaseModel):
    """When and why a part of a job's records was deleted."""

    at: datetime
    why: str = Field(description="such as: removed after 7 days")


class JobAnswer(BaseModel):
    """A train job."""

    id: int
    status: JobStatus
    model: str
    dataset: str | None
    progress: ProgressAnswer
    priority: int
    device: Device
    devices: int
    promote: Promotion
    attempt: int = Field(description="how often a worker has claimed the job")
    failures: int = Field(description="failed attempts in a row without a new checkpoint")
    max_attempts: int
    failure: FailureAnswer | None
    worker: str | None
    best: BestCheckpoint | None
    verdict: VerdictAnswer | None = Field(description="the newest early verdict; null before the first")
    parent_id: int | None = Field(description="the job whose training state it began from")
    sweep_id: int | None
    keep: bool = Field(description="marked: neither retention nor a deletion removes what it has stored")
    removed: dict[Part, RemovedAnswer] = Field(
        description="the parts of its records that were deleted after its end; without `states` it cannot be resumed"
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class JobDetailAnswer(JobAnswer):
    """A train job with its complete configuration."""

    request_id: str | None = Field(description="X-Request-ID of the request that queued it last; logs contain it too")
    configuration: dict[str, Any] = Field(description="the complete recipe, the starting point, and what is kept")


class JobsAnswer(BaseModel):
    """One page of train jobs."""

    jobs: list[JobAnswer]
    next_before: int | None = Field(description="pass as `before` for the next page; null on the last")
