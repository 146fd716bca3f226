"""How a train job looks in answers."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from darkroom.model.curve_point import CurvePoint
from darkroom.store.job_repository import JobNotFound, get_job
from darkroom.store.job_views import BestCheckpoint, JobView, view_jobs
from darkroom.store.tables import Device, Job, JobStatus, Promotion


class ProgressAnswer(BaseModel):
    """How far a job is. loss, images_per_second: of the newest metrics, null before the first ones."""

    images_done: int
    total_images: int
    images_per_second: float | None
    loss: float | None
    eta_seconds: float | None = Field(description="of training alone, while the job runs")


class FailureAnswer(BaseModel):
    """Why the last attempt ended badly."""

    kind: str
    detail: str


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
