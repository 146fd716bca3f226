"""POST /train-jobs: queue a training job."""

from fastapi import APIRouter, Depends, Response

from darkroom.app.api.callers import CallerHere, require_promotion, require_room
from darkroom.app.api.idempotency import IdempotencyKey, created_before, note_created
from darkroom.app.api.job_answers import JobDetailAnswer, detail_of, train_job
from darkroom.app.api.problems import documented
from darkroom.app.api.services import ServicesHere, require_json
from darkroom.app.api.train_fields import TrainFields, require_storable
from darkroom.app.api.train_plan import make_plan, make_work, queue_work
from darkroom.store.audit_repository import record

router = APIRouter(tags=["training"])

SCOPE = "POST /train-jobs"


class TrainJobRequest(TrainFields):
    """One training job."""


@router.post(
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
    """Check everything, queue the job and tell the workers. It will run whether or not they could be told."""
    require_storable(body)
    require_promotion(services, caller, body.promote)
    with services.transaction() as session:
        known = created_before(session, SCOPE, idempotency_key, body)
        if known is None:
            require_room(session, services, caller)
            plan = make_plan(session, services.settings.recipes_folder, body)
            job = queue_work(session, plan, make_work(plan, name=plan.name), origin=caller.origin)
            facts = {"model": job.model_name, "dataset": plan.dataset.name, "total_images": job.total_images}
            record(session, caller.actor, "train-job.submitted", f"train-jobs/{job.id}", facts)
            note_created(session, SCOPE, idempotency_key, job.id)
        else:
            job = train_job(session, known)
        answer = detail_of(session, job)
    if known is None:
        services.hint([answer.id])
    response.headers["Location"] = answer.links["self"]
    return answer
