"""Generate jobs: workers draw more images than one answer can hold, and the result is one file."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from sqlalchemy.orm import Session

from darkroom.app.access.caller import Caller
from darkroom.app.dependencies.callers import CallerHere, require_room
from darkroom.app.dependencies.deletion import DryRun, delete, deletion_answers
from darkroom.app.dependencies.idempotency import IdempotencyKey, created_before, note_created
from darkroom.app.dependencies.paging import LARGEST_ID, BeforeId, Limit
from darkroom.app.dependencies.services import Services, ServicesHere, require_json
from darkroom.app.exceptions import at
from darkroom.app.generate_jobs.schemas import GenerateJobAnswer, GenerateJobRequest, GenerateJobsAnswer, ShardsAnswer
from darkroom.app.generation.encoding import MEDIA_TYPES
from darkroom.app.generation.service import chosen, find_classes, find_version, work_of
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.file_answer import FileRequestHere, artifact_answer, documented_file
from darkroom.app.http.problems import Problem, documented, invalid, retry_after
from darkroom.app.jobs.schemas import FailureAnswer
from darkroom.app.versions.version import Version
from darkroom.model.provenance import random_seed
from darkroom.model.words import several
from darkroom.store.audit_repository import record
from darkroom.store.deletion import delete_generate_job
from darkroom.store.generate_repository import (
    GenerateProgress,
    cancel_generate_job,
    get_generate_job,
    list_generate_jobs,
    progress_of,
    provenance_of,
    retry_generate_job,
    submit_generate_job,
)
from darkroom.store.idempotency import GENERATE_JOBS
from darkroom.store.job_forms import GenerateRun
from darkroom.store.job_repository import JobConflict
from darkroom.store.model_repository import (
    ModelNotFound,
    VersionCollected,
    VersionNotFound,
    lock_model,
    resolve_kept,
)
from darkroom.store.tables import Checkpoint, GenerateJob

MOST_SHARDS = 1000
LARGEST_ZIP_IMAGES = 100_000
"""A zip file's directory is in memory while it is written, and few programs open a zip with more files than this."""

GenerateJobId = Annotated[int, DIGITS, Path(ge=1, le=LARGEST_ID)]

router = APIRouter(tags=["generate jobs"])


def _address(generate_job_id: int) -> str:
    return f"/v1/generate-jobs/{generate_job_id}"


def _describe(row: GenerateJob, checkpoint: Checkpoint, progress: GenerateProgress) -> GenerateJobAnswer:
    finished = row.result_digest is not None
    return GenerateJobAnswer(
        **dict(provenance_of(row, checkpoint)),
        status=progress.status,
        version_number=checkpoint.version,
        format=row.configuration["format"],
        images_done=progress.images_done,
        total_images=row.total_images,
        shards=ShardsAnswer.model_validate(progress.shards),
        failure=FailureAnswer.model_validate(progress.failure) if progress.failure else None,
        result=f"{_address(row.id)}/result" if finished else None,
        result_digest=row.result_digest,
        created_at=row.created_at,
    )


def _described(session: Session, caller: Caller, generate_job_id: int) -> GenerateJobAnswer:
    """Return the answer about a generate job. Raises OwnedByAnother."""
    row, checkpoint = get_generate_job(session, generate_job_id, caller.owner)
    session.refresh(row)
    return _describe(row, checkpoint, progress_of(session, [row])[row.id])


def _require_size(body: GenerateJobRequest, classes: int, limit: int) -> None:
    images = body.n * classes
    if images > limit:
        drawn = f"{several(body.n, 'image')} of {several(classes, 'class')}"
        detail = f"{drawn} are more than the {limit} that one generate job may draw"
        raise invalid([("/n", detail)])
    if images > MOST_SHARDS * body.shard_images:
        least = -(-images // MOST_SHARDS)
        detail = f"must be at least {least} for {images} images: a generate job has at most {MOST_SHARDS} shards"
        raise invalid([("/shard_images", detail)])
    if body.format == "zip" and images > LARGEST_ZIP_IMAGES:
        raise invalid([("/format", f"a zip holds at most {LARGEST_ZIP_IMAGES} images; take npz")])


def _run(body: GenerateJobRequest, version: Version, limit: int) -> GenerateRun:
    header = version.header
    everything = [label for label in range(len(header.class_names)) if label not in header.undrawn]
    classes = everything if body.class_ is None else find_classes(version, body.class_)
    _require_size(body, len(classes), limit)
    picked = chosen(body, version)
    return GenerateRun(
        class_indices=tuple(classes),
        images_per_class=body.n,
        seed=random_seed() if body.seed is None else body.seed,
        sampling=picked.sampling,
        format=body.format,
        choice=picked.choice,
    )


def _submit(
    services: Services, caller: Caller, version: Version, run: GenerateRun, body: GenerateJobRequest, key: str | None
) -> tuple[GenerateJobAnswer, Sequence[int]]:
    """Return the generate job, and the ids of its shards unless an earlier request with this key made them."""
    with services.transaction() as session:
        known = created_before(session, GENERATE_JOBS, key, body)
        if known is not None:
            return _described(session, caller, known), ()
        if version.number is None:
            detail = "the service has not registered this version in the store yet; try again"
            raise Problem(503, "not-registered", detail, headers=retry_after(2.0))
        require_room(session, services, caller)
        with at("/model", ModelNotFound, VersionNotFound, VersionCollected):
            lock_model(session, version.name)  # so that no collection removes the weights before the job refers to them
            checkpoint = resolve_kept(session, version.name, version.digest)
        generate_job, shards = submit_generate_job(
            session,
            checkpoint,
            run,
            shard_images=body.shard_images,
            priority=body.priority,
            max_attempts=body.max_attempts,
            origin=caller.origin,
        )
        facts = {"model": version.name, "version": version.digest, "images": run.total_images}
        record(session, caller.actor, "generate-job.submitted", f"generate-jobs/{generate_job.id}", facts)
        note_created(session, GENERATE_JOBS, key, generate_job.id)
        return _described(session, caller, generate_job.id), [shard.id for shard in shards]


@router.post(
    "/generate-jobs",
    status_code=202,
    dependencies=[Depends(require_json)],
    responses=documented(400, 410, 413, 415, 422, 500, 503),
)
async def create(
    body: GenerateJobRequest,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    idempotency_key: IdempotencyKey = None,
) -> GenerateJobAnswer:
    """Let workers draw n images of each class. The address in Location shows progress and the result."""
    version = await find_version(services, body.model, caller.owner, load=False)
    run = _run(body, version, services.settings.generate_job_images)

    services.gate.require_right(caller, priority=body.priority)
    work = work_of(version, run.sampling, run.total_images)
    await services.gate.charge(caller, work)
    job_ids: Sequence[int] = ()
    try:
        answer, job_ids = await run_in_threadpool(_submit, services, caller, version, run, body, idempotency_key)
    finally:
        if not job_ids:  # refused, or already created by an earlier request
            await services.gate.give_back(caller, work)
    services.hint(job_ids)
    response.headers["Location"] = _address(answer.id)
    return answer


@router.get("/generate-jobs", responses=documented(422, 500, 503))
def generate_jobs(
    services: ServicesHere,
    caller: CallerHere,
    before: BeforeId = None,
    limit: Limit = 50,
) -> GenerateJobsAnswer:
    """Return generate jobs that the caller may use, newest first."""
    with services.transaction() as session:
        rows = list_generate_jobs(session, before=before, limit=limit + 1, owner=caller.owner)
        page = rows[:limit]
        progress = progress_of(session, [row for row, _ in page])
        return GenerateJobsAnswer(
            generate_jobs=[_describe(row, checkpoint, progress[row.id]) for row, checkpoint in page],
            next_before=page[-1][0].id if len(rows) > limit else None,
        )


@router.get("/generate-jobs/{id}", responses=documented(404, 422, 500, 503))
def generate_job(services: ServicesHere, caller: CallerHere, id: GenerateJobId) -> GenerateJobAnswer:
    """Return a generate job and its progress."""
    with services.transaction() as session:
        return _described(session, caller, id)


@router.delete(
    "/generate-jobs/{id}",
    status_code=204,
    response_class=Response,
    responses=deletion_answers(),
)
def remove(services: ServicesHere, caller: CallerHere, id: GenerateJobId, dry_run: DryRun = False) -> Response:
    """Delete an ended generate job with its result. Its bytes are freed within hours.

    An unfinished one is not deleted (409): cancel it first.
    """

    def work(session: Session) -> None:
        delete_generate_job(session, caller.actor, id, owner=caller.owner)

    return delete(services, dry_run, work)


@router.post("/generate-jobs/{id}/cancel", status_code=202, responses=documented(404, 409, 422, 500, 503))
def cancel(services: ServicesHere, caller: CallerHere, id: GenerateJobId) -> GenerateJobAnswer:
    """Stop drawing: queued shards at once, running ones after their present sampler step. Drawn images are kept."""
    with services.transaction() as session:
        get_generate_job(session, id, caller.owner)
        cancel_generate_job(session, id)
        record(session, caller.actor, "generate-job.cancelled", f"generate-jobs/{id}")
        return _described(session, caller, id)


@router.post("/generate-jobs/{id}/retry", status_code=202, responses=documented(404, 409, 422, 500, 503))
def retry(services: ServicesHere, caller: CallerHere, id: GenerateJobId) -> GenerateJobAnswer:
    """Draw the shards that failed or were cancelled. Drawn images are kept."""
    with services.transaction() as session:
        get_generate_job(session, id, caller.owner)
        require_room(session, services, caller)
        job_ids = [job.id for job in retry_generate_job(session, id, origin=caller.origin_again)]
        record(session, caller.actor, "generate-job.retried", f"generate-jobs/{id}", {"jobs": len(job_ids)})
        answer = _described(session, caller, id)
    services.hint(job_ids)
    return answer


@router.get(
    "/generate-jobs/{id}/result",
    response_class=Response,
    responses=documented(404, 409, 422, 500, 503)
    | documented_file("The images", MEDIA_TYPES["npz"], MEDIA_TYPES["zip"]),
)
def result(services: ServicesHere, caller: CallerHere, asked: FileRequestHere, id: GenerateJobId) -> Response:
    """Return the result: a zip, or an npz with `images` (N, H, W, C) uint8, `labels`, `seeds`, `indices` and `facts`.

    The service checks the bytes while it sends them. If they are damaged, it breaks the connection before the end. It
    does not check a part (`Range`): compare the SHA-256 of all parts with `ETag`.
    """
    with services.transaction() as session:
        answer = _described(session, caller, id)
        if answer.result_digest is None:
            raise JobConflict(f"generate job {id} is {answer.status} and has no result")
    filename = f"darkroom-generate-job-{id}.{answer.format}"
    return artifact_answer(services.store, answer.result_digest, asked, MEDIA_TYPES[answer.format], filename)
