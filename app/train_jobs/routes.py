"""/train-jobs: submit, list, show, cancel, resume and retry train jobs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from sqlalchemy.orm import Session

from darkroom.app.access.caller import Caller
from darkroom.app.dependencies.callers import CallerHere, may_promote, require_promotion, require_room
from darkroom.app.dependencies.deletion import DryRun, KeepRequest, delete, deletion_answers
from darkroom.app.dependencies.idempotency import IdempotencyKey, created_before, note_created
from darkroom.app.dependencies.paging import LARGEST_ID, BeforeId, Limit
from darkroom.app.dependencies.services import Services, ServicesHere, require_json
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.problems import documented
from darkroom.app.http.storable import require_storable
from darkroom.app.train_jobs.answers import job_answer, job_detail
from darkroom.app.train_jobs.schemas import JobDetailAnswer, JobsAnswer, TrainJobRequest
from darkroom.app.train_jobs.service import (
    get_train_job,
    make_plan,
    make_work,
    queue_work,
    require_agreement,
    require_state,
)
from darkroom.model.config import ModelName
from darkroom.store.audit_repository import record
from darkroom.store.deletion import delete_train_job
from darkroom.store.idempotency import TRAIN_JOBS
from darkroom.store.job_repository import list_jobs, lock_job, request_cancel, requeue
from darkroom.store.job_views import view_jobs
from darkroom.store.model_repository import require_model
from darkroom.store.tables import Job, JobStatus

router = APIRouter(tags=["training"])

submission = APIRouter(tags=["training"])
"""Only POST /train-jobs, which also has an address without /v1."""

JobId = Annotated[int, DIGITS, Path(ge=1, le=LARGEST_ID)]


@submission.post(
    "/train-jobs",
    status_code=202,
    dependencies=[Depends(require_json)],
    responses=documented(400, 409, 410, 413, 415, 422, 500, 503),
)
def submit(
    body: TrainJobRequest,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    idempotency_key: IdempotencyKey = None,
) -> JobDetailAnswer:
    """Check the whole request, queue the job and send workers a hint. The job runs even if the hint is lost."""
    require_storable(body)
    if body.minutes is not None and "promote" not in body.model_fields_set and may_promote(caller):
        body.promote = "best"
    require_promotion(services, caller, body.promote)
    with services.transaction() as session:
        known = created_before(session, TRAIN_JOBS, idempotency_key, body)
        if known is None:
            require_room(session, services, caller)
            plan = make_plan(session, services.settings.recipes_folder, body, caller.owner)
            (work,) = require_agreement(session, [make_work(plan, name=plan.name)], body)
            services.gate.require_right(caller, priority=body.priority, devices=work.recipe.training.devices)
            job = queue_work(session, plan, work, caller=caller)
            facts = {"model": job.model_name, "dataset": plan.dataset.name, "total_images": job.total_images}
            record(session, caller.actor, "train-job.submitted", f"train-jobs/{job.id}", facts)
            note_created(session, TRAIN_JOBS, idempotency_key, job.id)
        else:
            job = get_train_job(session, known, caller.owner)
        answer = job_detail(session, job)
    if known is None:
        services.hint([answer.id])
    response.headers["Location"] = answer.links["self"]
    return answer


@router.get("/train-jobs", responses=documented(422, 500, 503))
def jobs(
    services: ServicesHere,
    caller: CallerHere,
    before: BeforeId = None,
    limit: Limit = 50,
    status: JobStatus | None = None,
    model: Annotated[ModelName | None, Query()] = None,
) -> JobsAnswer:
    """Train jobs that the caller may use, newest first."""
    with services.transaction() as session:
        rows = list_jobs(
            session,
            kind="train",
            before=before,
            limit=limit + 1,
            status=status,
            model_name=model,
            owner=caller.owner,
        )
        page = rows[:limit]
        return JobsAnswer(
            jobs=[job_answer(view) for view in view_jobs(session, page)],
            next_before=page[-1].id if len(rows) > limit else None,
        )


@router.get("/train-jobs/{job_id}", responses=documented(404, 422, 500, 503))
def job(job_id: JobId, services: ServicesHere, caller: CallerHere) -> JobDetailAnswer:
    """One train job."""
    with services.transaction() as session:
        return job_detail(session, get_train_job(session, job_id, caller.owner))


_CHANGES = documented(404, 409, 422, 500, 503)


def _changed(session: Session, caller: Caller, row: Job, action: str) -> JobDetailAnswer:
    """Write a change into the audit trail and return the changed job."""
    record(session, caller.actor, f"train-job.{action}", f"train-jobs/{row.id}", {"status": row.status})
    session.flush()
    session.refresh(row)  # times come from the database's clock
    return job_detail(session, row)


@router.patch(
    "/train-jobs/{job_id}",
    dependencies=[Depends(require_json)],
    responses=documented(400, 404, 413, 415, 422, 500, 503),
)
def change(body: KeepRequest, job_id: JobId, services: ServicesHere, caller: CallerHere) -> JobDetailAnswer:
    """Mark a job to be kept, or take the mark off.

    While it is set, the job's states, curve, log and events stay after its end, and nobody can delete the job.
    """
    with services.transaction() as session:
        get_train_job(session, job_id, caller.owner)
        row = lock_job(session, job_id)
        row.keep = body.keep
        record(session, caller.actor, "train-job.marked", f"train-jobs/{job_id}", {"keep": body.keep})
        return job_detail(session, row)


@router.delete(
    "/train-jobs/{job_id}",
    status_code=204,
    response_class=Response,
    responses=deletion_answers(),
)
def remove(
    job_id: JobId,
    services: ServicesHere,
    caller: CallerHere,
    force: Annotated[
        bool, Query(description="delete it even if it is part of a sweep, or jobs have continued it")
    ] = False,
    dry_run: DryRun = False,
) -> Response:
    """Delete an ended job with its states, sample grids, curve, log and events. The versions that it made stay.

    If something needs it, the answer is 409, and `dependents` lists that. An unfinished or marked job is never deleted,
    nor one whose state an unfinished job begins with.
    """

    def work(session: Session) -> None:
        delete_train_job(session, caller.actor, job_id, force=force and not dry_run, owner=caller.owner)

    return delete(services, dry_run, work)


@router.post("/train-jobs/{job_id}/cancel", status_code=202, responses=_CHANGES)
def cancel(job_id: JobId, services: ServicesHere, caller: CallerHere) -> JobDetailAnswer:
    """Cancel a job. A waiting job ends at once; a running job first stores a checkpoint.

    If the work does not stop within the worker's grace time (120 s by default), the worker kills it; `failure` then
    says so and names the last checkpoint.
    """
    with services.transaction() as session:
        get_train_job(session, job_id, caller.owner)
        return _changed(session, caller, request_cancel(session, job_id), "cancelled")


def _queue_again(services: Services, caller: Caller, job_id: int, action: str, was: JobStatus) -> JobDetailAnswer:
    with services.transaction() as session:
        before = get_train_job(session, job_id, caller.owner)
        require_promotion(services, caller, before.promote)
        require_model(session, before.model_name, caller.owner)
        require_state(session, lock_job(session, job_id))
        require_room(session, services, caller)
        row = requeue(session, job_id, was=was, origin=caller.origin_again)
        answer = _changed(session, caller, row, action)
    services.hint([job_id])
    return answer


@router.post("/train-jobs/{job_id}/resume", status_code=202, responses=_CHANGES)
def resume(job_id: JobId, services: ServicesHere, caller: CallerHere) -> JobDetailAnswer:
    """Queue a cancelled job again; it continues from its last checkpoint."""
    return _queue_again(services, caller, job_id, "resumed", "cancelled")


@router.post("/train-jobs/{job_id}/retry", status_code=202, responses=_CHANGES)
def retry(job_id: JobId, services: ServicesHere, caller: CallerHere) -> JobDetailAnswer:
    """Queue a failed job again; it continues from its last checkpoint."""
    return _queue_again(services, caller, job_id, "retried", "failed")
