"""What requests for training and answers about train jobs contain."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from darkroom.app.dependencies.paging import LARGEST_ID
from darkroom.app.jobs.schemas import FailureAnswer
from darkroom.model.config import ModelName
from darkroom.store.job_views import BestCheckpoint
from darkroom.store.tables import Device, JobStatus, Promotion

LONGEST_TRAINING_IMAGES = 10**15

Identifier = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
Images = Annotated[int, Field(strict=True, ge=1, le=LONGEST_TRAINING_IMAGES)]


class TrainFields(BaseModel):
    """What every request for training has. Fields that are left out are as in the recipe."""

    model_config = ConfigDict(extra="forbid")

    recipe: ModelName | dict[StrictStr, Any] | None = Field(
        None,
        description="a recipe's name, or a whole configuration (its `dataset` and `name` may be left out); only a job "
        "that goes on from another one needs none",
    )
    overrides: dict[StrictStr, Any] = Field(
        {},
        max_length=100,
        description='fields of the recipe by dotted name: {"training.total_images": 200000}; of a section given as an '
        "object, what it names",
    )
    dataset: StrictStr | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="a registered data set's name; default: the one that was registered as the recipe reads it",
    )
    model: ModelName | None = Field(None, description="what the model is called; default: the recipe's name")
    priority: Annotated[int, Field(strict=True)] = Field(0, ge=-100, le=100, description="higher ones run first")
    device: Device = "auto"
    promote: Promotion = Field(
        "never",
        description="best: the best checkpoint becomes the model's production version, which needs the scope admin, "
        "as PUT /v1/models/NAME/alias/production does",
    )
    max_attempts: Annotated[int, Field(strict=True)] = Field(
        3, ge=1, le=100, description="bad ends in a row, without a new checkpoint, after which the job fails for good"
    )
    keep_last: Annotated[int, Field(strict=True)] = Field(
        3, ge=1, le=1000, description="checkpoints kept besides the best one and those with an alias"
    )
    evaluate_every_images: Images | None = Field(None, description="evaluation.every_images of the recipe")
    from_job: Identifier | None = Field(
        None,
        description="go on from this job's training state, for longer or aside: the data set, `optimizer.name` and "
        "(but for dropout) the recipe's `model` must be its own",
    )
    images_seen: Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)] | None = Field(
        None, description="with from_job: which of its kept states; default: the newest"
    )
    from_model: StrictStr | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}@[A-Za-z0-9:._-]{1,80}$",
        description="begin with the weights of NAME@NUMBER, NAME@ALIAS or NAME@sha256:...: the recipe's `model` must "
        "be theirs (but for dropout); classes go by name where both have the same names, else by number",
    )


class TrainJobRequest(TrainFields):
    """One training job."""


class ProgressAnswer(BaseModel):
    """How far a job is. loss, images_per_second: of the newest metrics, null before the first ones."""

    images_done: int
    total_images: int
    images_per_second: float | None
    loss: float | None
    eta_seconds: float | None = Field(description="of training alone, while the job runs")


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
    attempt: int = Field(description="how often a worker has taken it up")
    failures: int = Field(description="bad ends in a row without a new checkpoint")
    max_attempts: int
    failure: FailureAnswer | None
    worker: str | None
    best: BestCheckpoint | None
    parent_id: int | None = Field(description="the job whose training state it began from")
    sweep_id: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class JobDetailAnswer(JobAnswer):
    """A train job with all that it was asked to do."""

    request_id: str | None = Field(description="X-Request-ID of the request that queued it last, as logs have it")
    configuration: dict[str, Any] = Field(description="the complete recipe, where it starts, and what it keeps")


class JobsAnswer(BaseModel):
    """One page of train jobs."""

    jobs: list[JobAnswer]
    next_before: int | None = Field(description="pass as `before` for the next page; null on the last")
