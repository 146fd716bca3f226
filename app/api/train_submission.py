"""POST /train-jobs: queue a training job."""

from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session

from app.api.callers import CallerHere, require_promotion, require_room
from app.api.idempotency import IdempotencyKey
from app.api.job_answers import JobDetailAnswer, detail_of, train_job
from app.api.problems import documented
from app.api.services import ServicesHere, require_json
from app.api.train_fields import TrainFields, require_storable
from app.api.train_plan import make_plan, make_work, queue_work
from app.api.transactions import in_store, once
from store.audit_repository import record

router = APIRouter(tags=["training"])

SCOPE = "POST /train-jobs"


class TrainJobRequest(TrainFields):
    """One training job."""


@router.post(
    "/train-jobs",
    status_code=202,
    dependencies=[Depends(require_json)],
    responses=documented(400, 404, 409, 413, 415, 422, 500, 503),
)
async def submit(
    body: TrainJobRequest,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    idempotency_key: IdempotencyKey = None,
) -> JobDetailAnswer:
    """Check everything, queue the job and tell the workers. It will run whether or not they could be told."""
    require_storable(body)
    require_promotion(services, caller, body.promote)

    def run(session: Session) -> tuple[JobDetailAnswer, bool]:
        def create() -> int:
            require_room(session, services, caller)
            plan = make_plan(session, services.settings.recipes_folder, body)
            job = queue_work(session, plan, make_work(plan, name=plan.name), origin=caller.origin)
            facts = {"model": job.model_name, "dataset": plan.dataset.name, "total_images": job.total_images}
            record(session, caller.actor, "train-job.submitted", f"train-jobs/{job.id}", facts)
            return job.id

        job_id, new = once(session, SCOPE, idempotency_key, body.model_dump_json(), create)
        return detail_of(session, train_job(session, job_id)), new

    answer, new = await in_store(services, run)
    if new:
        services.hint([answer.id])
    response.headers["Location"] = answer.links["self"]
    return answer
