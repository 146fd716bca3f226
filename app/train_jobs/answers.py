"""Builds the answers about train jobs from what the database holds."""

from typing import Any

from sqlalchemy.orm import Session

from darkroom.app.jobs.schemas import FailureAnswer, VerdictAnswer
from darkroom.app.train_jobs.schemas import JobAnswer, JobDetailAnswer, ProgressAnswer
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.job_views import JobView, view_jobs
from darkroom.store.tables import Job, JobStatus


def progress(status: JobStatus, images_done: int, total_images: int, last: CurvePoint | None) -> ProgressAnswer:
    """Return a job's progress. last: its newest curve point, None before the first one."""
    speed = last.images_per_second if last else None
    left = last.seconds_left if last else None
    if left is None and speed:
        left = (total_images - images_done) / speed
    return ProgressAnswer(
        images_done=images_done,
        total_images=total_images,
        images_per_second=speed,
        loss=last.loss if last else None,
        eta_seconds=round(left, 1) if left is not None and status == "running" else None,
    )


def job_answer(view: JobView) -> JobAnswer:
    """Return the answer about a job in a list."""
    return JobAnswer(**_members(view))


def job_detail(session: Session, job: Job) -> JobDetailAnswer:
    """Return the answer about a single job."""
    view = view_jobs(session, [job])[0]
    return JobDetailAnswer(**_members(view), request_id=job.request_id, configuration=job.configuration)


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
        "verdict": VerdictAnswer.model_validate(job.verdict) if job.verdict else None,
        "parent_id": job.parent_id,
        "sweep_id": job.sweep_id,
        "keep": job.keep,
        "removed": job.removed,
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
