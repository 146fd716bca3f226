"""Generate jobs: large requests for images, drawn in shards by `sample` jobs and joined by one `assemble` job.

A transaction that changes or reads several jobs of a generate job to decide something locks the generate job's record
first, and then the jobs'. So these transactions run one after the other, and none deadlocks with a worker.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, exists, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from darkroom.store.job_forms import GenerateRun, JobProvenance, SampleWork
from darkroom.store.job_repository import (
    FINISHED,
    NO_REQUEST,
    FailureKind,
    JobConflict,
    Lease,
    Origin,
    get_job,
    request_cancel,
    requeue,
    submit_job,
    succeed,
)
from darkroom.store.owners import Owner, owned, require_owned
from darkroom.store.tables import Checkpoint, GenerateJob, Job, JobStatus

PART_DAMAGED: FailureKind = "part_damaged"
"""The failure of an assemble job that found parts missing. It runs again once they are drawn."""

MOST_ASSEMBLIES = 5
"""After so many attempts that all find damage, an assemble job stays failed: the store itself must be damaged."""


class GenerateJobNotFound(LookupError):
    """There is no such generate job."""

    def __init__(self, generate_job_id: int) -> None:
        super().__init__(f"there is no generate job {generate_job_id}")


@dataclass(frozen=True, slots=True)
class GenerateProgress:
    """The progress of a generate job. shards: counts by state. failure: {"kind", "detail"} of a failed one."""

    status: JobStatus
    images_done: int
    shards: Mapping[JobStatus, int]
    failure: Mapping[str, Any] | None


def submit_generate_job(
    session: Session,
    checkpoint: Checkpoint,
    run: GenerateRun,
    *,
    shard_images: int,
    priority: int = 0,
    max_attempts: int = 3,
    origin: Origin = NO_REQUEST,
) -> tuple[GenerateJob, Sequence[Job]]:
    """Queue a request as shards of up to `shard_images` images; returns the record of the request and of each shard.

    max_attempts: of each shard, and of the assembly.
    """
    generate_job = GenerateJob(
        checkpoint_id=checkpoint.id,
        configuration=run.model_dump(mode="json"),
        total_images=run.total_images,
        api_key_id=origin.api_key_id,
    )
    session.add(generate_job)
    session.flush()
    session.refresh(generate_job)
    shards = [
        submit_job(
            session,
            kind="sample",
            model_name=checkpoint.model.name,
            configuration=work.model_dump(mode="json"),
            total_images=work.rows,
            generate_job_id=generate_job.id,
            origin=origin,
            priority=priority,
            max_attempts=max_attempts,
        )
        for work in _shards(run.total_images, shard_images)
    ]
    return generate_job, shards


def get_generate_job(
    session: Session, generate_job_id: int, owner: Owner | None = None
) -> tuple[GenerateJob, Checkpoint]:
    """One generate job and the model version that it draws from.

    owner: who asks; None for somebody who may use all. Raises GenerateJobNotFound and OwnedByAnother.
    """
    generate_job = session.get(GenerateJob, generate_job_id)
    if generate_job is None:
        raise GenerateJobNotFound(generate_job_id)
    require_owned(session, generate_job, owner)
    return generate_job, session.get_one(Checkpoint, generate_job.checkpoint_id)


def provenance_of(generate_job: GenerateJob, checkpoint: Checkpoint) -> JobProvenance:
    """The settings that make its images again. checkpoint: its model version."""
    run = GenerateRun.model_validate(generate_job.configuration)
    return JobProvenance(
        id=generate_job.id,
        model=checkpoint.model.name,
        version=checkpoint.digest,
        **run.sampling.model_dump(),
        seed=run.seed,
        choice=run.choice,
        n=run.images_per_class,
        classes=[checkpoint.class_names[index] for index in run.class_indices],
        class_indices=list(run.class_indices),
    )


def list_generate_jobs(
    session: Session, *, before: int | None = None, limit: int = 50, owner: Owner | None = None
) -> Sequence[tuple[GenerateJob, Checkpoint]]:
    """Up to `limit` generate jobs with their model versions, newest first, with ids below `before`.

    owner: lists only generate jobs that it may use.
    """
    query = (
        select(GenerateJob, Checkpoint)
        .join(Checkpoint, Checkpoint.id == GenerateJob.checkpoint_id)
        .order_by(GenerateJob.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(GenerateJob.id < before)
    if owner is not None:
        query = query.where(owned(GenerateJob.api_key_id, owner))
    return [(generate_job, checkpoint) for generate_job, checkpoint in session.execute(query).all()]


def progress_of(session: Session, generate_jobs: Sequence[GenerateJob]) -> Mapping[int, GenerateProgress]:
    """The progress of each generate job, by id."""
    ids = [generate_job.id for generate_job in generate_jobs]
    shards: dict[int, dict[JobStatus, int]] = defaultdict(dict)
    images_done: Counter[int] = Counter()
    for number, status, count, done in session.execute(
        select(Job.generate_job_id, Job.status, func.count(), func.sum(Job.images_done))
        .where(Job.generate_job_id.in_(ids), Job.is_shard)
        .group_by(Job.generate_job_id, Job.status)
    ):
        assert number is not None
        shards[number][status] = count
        images_done[number] += int(done)
    failed = _jobs_of(ids).where(Job.is_shard, Job.status == "failed").order_by(Job.generate_job_id, Job.id)
    first_failed = session.scalars(failed.ext(distinct_on(Job.generate_job_id)))
    failures = {job.generate_job_id: job.failure for job in first_failed}
    assemblies = {job.generate_job_id: job for job in session.scalars(_jobs_of(ids).where(Job.is_assembly))}
    return {
        one.id: _progress(one, images_done[one.id], shards[one.id], failures.get(one.id), assemblies.get(one.id))
        for one in generate_jobs
    }


def cancel_generate_job(session: Session, generate_job_id: int) -> None:
    """Cancel its unfinished jobs. Raises GenerateJobNotFound, or JobConflict when there are none."""
    # Between the last shard and the assembly no job is queued. Queue the assembly, so that it can be cancelled.
    queue_assembly(session, generate_job_id)
    active = [job for job in lock_jobs(session, generate_job_id) if job.status not in FINISHED]
    if not active:
        raise JobConflict(f"generate job {generate_job_id} has ended; there is nothing to cancel")
    for job in active:
        request_cancel(session, job.id)


def retry_generate_job(session: Session, generate_job_id: int, *, origin: Origin | None = None) -> Sequence[Job]:
    """Queue its failed and cancelled jobs again and return them. Finished parts are kept.

    origin: see `store.job_repository.requeue`. Raises GenerateJobNotFound, JobConflict when there are none.
    """
    generate_job = lock_generate_job(session, generate_job_id)
    jobs = lock_jobs(session, generate_job_id)
    drawn = all(job.status == "succeeded" for job in jobs if job.is_shard)
    undone = [job for job in jobs if job.status in ("failed", "cancelled") and job.is_assembly == drawn]
    if generate_job.result_digest is not None or not undone:
        raise JobConflict(f"generate job {generate_job_id} has no failed or cancelled shard; there is nothing to retry")
    for job in undone:
        requeue(session, job.id, was=job.status, origin=origin)
    return undone


def succeed_shard(session: Session, lease: Lease) -> None:
    """Mark a shard as succeeded, and queue the assembly when it was the last; raises LeaseLost."""
    generate_job = lock_generate_job_of(session, lease)
    succeed(session, lease)
    queue_assembly(session, generate_job.id)


def assemble_what_is_ready(session: Session) -> int:
    """Queue the assembly of every generate job whose shards are all drawn; returns how many.

    Two calls, even at the same time, do no harm.
    """
    of_this = Job.generate_job_id == GenerateJob.id
    undrawn = exists().where(of_this, Job.is_shard, Job.status != "succeeded")
    assembly = exists().where(of_this, Job.is_assembly, Job.status != "failed")
    candidates = session.scalars(
        select(GenerateJob.id).where(GenerateJob.result_digest.is_(None), ~undrawn, ~assembly).order_by(GenerateJob.id)
    ).all()
    return sum(queue_assembly(session, number) for number in candidates)


def queue_assembly(session: Session, generate_job_id: int) -> bool:
    """Queue the assembly of a generate job if its shards are all drawn and it is not queued yet.

    Returns True if this call queued it. Raises GenerateJobNotFound.
    """
    generate_job = lock_generate_job(session, generate_job_id)
    jobs = _jobs_of([generate_job_id])
    undrawn = jobs.where(Job.is_shard, Job.status != "succeeded").limit(1)
    if generate_job.result_digest is not None or session.scalars(undrawn).first() is not None:
        return False
    assembly = session.scalars(jobs.where(Job.is_assembly)).one_or_none()
    if assembly is not None:
        due = _is_due_again(assembly)
        if due:
            requeue(session, assembly.id, was="failed")
        return due
    shard = session.scalars(jobs.where(Job.is_shard).order_by(Job.priority.desc()).limit(1)).one()
    submit_job(
        session,
        kind="assemble",
        model_name=shard.model_name,
        configuration={},
        total_images=generate_job.total_images,
        generate_job_id=generate_job_id,
        origin=Origin(request_id=shard.request_id, traceparent=shard.traceparent),
        priority=shard.priority + 1,  # assembly takes seconds, and must not wait behind the shards of later requests
        max_attempts=shard.max_attempts,
    )
    return True


def lock_generate_job(session: Session, generate_job_id: int) -> GenerateJob:
    """Lock its record until the transaction ends (see the module) and return it. Raises GenerateJobNotFound."""
    generate_job = session.get(
        GenerateJob,
        generate_job_id,
        with_for_update={"key_share": True},  # this lock lets a shard store a part, which refers to this record
        populate_existing=True,
    )
    if generate_job is None:
        raise GenerateJobNotFound(generate_job_id)
    return generate_job


def lock_generate_job_of(session: Session, lease: Lease) -> GenerateJob:
    """Lock the generate job of a claimed job. This does not prove the claim."""
    number = get_job(session, lease.job_id).generate_job_id
    assert number is not None
    return lock_generate_job(session, number)


def _shards(total_images: int, shard_images: int) -> list[SampleWork]:
    return [
        SampleWork(first_row=first, rows=min(shard_images, total_images - first))
        for first in range(0, total_images, shard_images)
    ]


def lock_jobs(session: Session, generate_job_id: int) -> Sequence[Job]:
    """Lock all jobs of a generate job until the transaction ends, and return them.

    Call it before ending one of them: that locks a counter, and the holder of a counter must not wait for a job.
    """
    return session.scalars(_jobs_of([generate_job_id]).order_by(Job.id).with_for_update()).all()


def _jobs_of(generate_job_ids: Sequence[int]) -> Select[Job]:
    """The jobs of these generate jobs, read again from the database."""
    mine = Job.generate_job_id.in_(generate_job_ids)
    return select(Job).where(mine).execution_options(populate_existing=True)


def _is_due_again(assembly: Job) -> bool:
    """True when an assembly failed because parts must be drawn again."""
    damaged = assembly.failure is not None and assembly.failure["kind"] == PART_DAMAGED
    return assembly.status == "failed" and damaged and assembly.attempt < MOST_ASSEMBLIES


def _progress(
    generate_job: GenerateJob,
    images_done: int,
    shards: Mapping[JobStatus, int],
    failure: Mapping[str, Any] | None,
    assembly: Job | None,
) -> GenerateProgress:
    if set(shards) == {"succeeded"}:
        status: JobStatus = "succeeded" if generate_job.result_digest is not None else "running"
        if status == "running" and assembly is not None and not _is_due_again(assembly):
            if assembly.status in ("cancelling", "failed", "cancelled"):
                status = assembly.status
            failure = assembly.failure if status == "failed" else None
        return GenerateProgress(status, images_done, shards, failure)
    if "cancelling" in shards:
        status = "cancelling"
    elif "running" in shards or ("queued" in shards and images_done > 0):
        status = "running"
    elif "queued" in shards:
        status = "queued"
    else:
        status = "failed" if "failed" in shards else "cancelled"
    return GenerateProgress(status, images_done, shards, failure)
