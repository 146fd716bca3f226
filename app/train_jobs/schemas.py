"""What requests for training and answers about train jobs contain."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr
from sqlalchemy.orm import Session

from darkroom.app.dependencies.paging import LARGEST_ID
from darkroom.app.http.problems import invalid
from darkroom.app.jobs.schemas import FailureAnswer
from darkroom.model.config import ModelName
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.job_repository import JobNotFound, get_job
from darkroom.store.job_views import BestCheckpoint, JobView, view_jobs
from darkroom.store.tables import Device, Job, JobStatus, Promotion

LONGEST_TRAINING_IMAGES = 10**15
DEEPEST_NESTING = 16

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


def token(text: str) -> str:
    """A part of a JSON pointer (RFC 6901)."""
    return text.replace("~", "~0").replace("/", "~1")


def require_storable(body: BaseModel) -> None:
    """Refuse what no database column holds: NUL, lone surrogates, numbers that are none; raises Problem."""
    faults = list(_unstorable(body.model_dump()))
    if faults:
        raise invalid(faults)


def _unstorable(value: Any, pointer: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > DEEPEST_NESTING:
        yield pointer, "is nested too deeply"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if _is_unstorable_text(key):
                yield pointer, "a name in it holds characters that cannot be stored"
            else:
                yield from _unstorable(inner, f"{pointer}/{token(key)}", depth + 1)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _unstorable(inner, f"{pointer}/{place}", depth + 1)
    elif isinstance(value, str) and _is_unstorable_text(value):
        yield pointer, "holds characters that cannot be stored"
    elif isinstance(value, float) and not math.isfinite(value):
        yield pointer, "must be a finite number"


def _is_unstorable_text(text: str) -> bool:
    return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


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


def progress(status: JobStatus, images_done: int, total_images: int, last: CurvePoint | None) -> ProgressAnswer:
    """See ProgressAnswer."""
    speed = last.images_per_second if last else None
    left = total_images - images_done
    return ProgressAnswer(
        images_done=images_done,
        total_images=total_images,
        images_per_second=speed,
        loss=last.loss if last else None,
        eta_seconds=round(left / speed, 1) if speed and status == "running" else None,
    )


def job_answer(view: JobView) -> JobAnswer:
    """A job as a list shows it."""
    return JobAnswer(**_members(view))


def job_detail(view: JobView) -> JobDetailAnswer:
    """A job by itself."""
    return JobDetailAnswer(**_members(view), request_id=view.job.request_id, configuration=view.job.configuration)


def train_job(session: Session, job_id: int) -> Job:
    """A train job's row; raises JobNotFound for any other id."""
    job = get_job(session, job_id)
    if not job.is_training:
        raise JobNotFound(job_id)
    return job


def detail_of(session: Session, job: Job) -> JobDetailAnswer:
    """A job's row by itself."""
    return job_detail(view_jobs(session, [job])[0])


def _members(view: JobView) -> dict[str, Any]:
    job = view.job
    return {
        "id": job.id,
        "status": job.status,
        "model": job.model_name,
        "dataset": view.dataset_name,
        "progress": progress(job.status, job.images_done, job.total_images, view.last),
        "priority": job.priority,
        "device": job.device,
        "devices": job.devices,
        "promote": job.promote,
        "attempt": job.attempt,
        "failures": job.failures,
        "max_attempts": job.max_attempts,
        "failure": FailureAnswer(**job.failure) if job.failure else None,
        "worker": job.worker,
        "best": view.best,
        "parent_id": job.parent_id,
        "sweep_id": job.sweep_id,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "links": _links(job),
    }


def _links(job: Job) -> dict[str, str]:
    here = f"/v1/train-jobs/{job.id}"
    links = {name: f"{here}/{name}" for name in ("events", "metrics", "checkpoints", "evaluations", "samples", "logs")}
    links |= {"self": here, "model": f"/v1/models/{job.model_name}"}
    if job.parent_id is not None:
        links["parent"] = f"/v1/train-jobs/{job.parent_id}"
    if job.sweep_id is not None:
        links["sweep"] = f"/v1/sweeps/{job.sweep_id}"
    return links
