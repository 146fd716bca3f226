"""Jobs: submitting, claiming, the lease, and every change of state.

All times are of the database's clock. Every write of a worker goes through `hold`, which locks the job's record and
checks that the worker's claim is still valid. Otherwise nothing is written (fencing).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from darkroom.store.clock import seconds
from darkroom.store.counters import count
from darkroom.store.owners import Owner, owned
from darkroom.store.tables import Device, Job, JobEvent, JobKind, JobStatus, Promotion
from darkroom.store.worker_repository import most_devices, workers_alive

UNFINISHED: tuple[JobStatus, ...] = ("queued", "running", "cancelling")
FINISHED: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")
ATTEMPT_OUTCOMES = ("succeeded", "failed", "cancelled", "handed_back", "crashed", "lapsed")
FailureKind = Literal[
    "dataset",
    "checkpoint",
    "training",
    "diverged",
    "out_of_memory",
    "disk_full",
    "no_device",
    "part_damaged",
    "unknown",
    "stopped_late",
    "time_limit",
    "database",
    "storage",
    "crashed",
    "worker_lost",
]
"""`database`, `storage`, `crashed` and `worker_lost` are tried again, since the cause may be gone. After
`stopped_late`, and after the `no_device` of one worker, the job is queued again without counting as a failure."""

_KEY = func.coalesce(Job.api_key_id, 0)
"""The key of a job; ids begin at 1, so 0 stands for no key."""

ASKED_FOR = "asked for"
"""The reason in the event of a job that a request, or another job, queued again after its end."""

FIRST_RETRY_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 300.0


class JobNotFound(LookupError):
    """There is no such job."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}")


class JobConflict(RuntimeError):
    """A change that the job's state does not allow; the message says why."""


class LeaseLost(RuntimeError):
    """The claim is over: the lease lapsed, or another attempt has begun. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on a job. attempt: the fencing token."""

    job_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The caller and request that asked for a job.

    request_id: its X-Request-ID. traceparent: of its span (W3C Trace Context), if it is traced.
    """

    api_key_id: int | None = None
    request_id: str | None = None
    traceparent: str | None = None


NO_REQUEST = Origin()


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker that claims. device: "cpu" or "cuda". devices: how many one job may use; on a CPU any number fits."""

    worker: str
    device: Literal["cpu", "cuda"]
    devices: int = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """The cause of a bad end. detail: a sentence that says what to do."""

    kind: FailureKind
    detail: str

    def as_json(self) -> dict[str, Any]:
        """The form in the job's record."""
        return {"kind": self.kind, "detail": self.detail[:4000]}


def submit_job(
    session: Session,
    *,
    kind: JobKind,
    model_name: str,
    configuration: Mapping[str, Any],
    total_images: int,
    dataset_id: int | None = None,
    sweep_id: int | None = None,
    generate_job_id: int | None = None,
    parent_id: int | None = None,
    origin: Origin = NO_REQUEST,
    priority: int = 0,
    device: Device = "auto",
    devices: int = 1,
    promote: Promotion = "never",
    max_attempts: int = 3,
) -> Job:
    """Queue a job. It runs once the transaction commits, with or without a hint."""
    job = Job(
        kind=kind,
        status="queued",
        model_name=model_name,
        configuration=dict(configuration),
        total_images=total_images,
        dataset_id=dataset_id,
        sweep_id=sweep_id,
        generate_job_id=generate_job_id,
        parent_id=parent_id,
        api_key_id=origin.api_key_id,
        request_id=origin.request_id,
        traceparent=origin.traceparent,
        priority=priority,
        device=device,
        devices=devices,
        promote=promote,
        max_attempts=max_attempts,
    )
    session.add(job)
    session.flush()
    session.refresh(job)
    add_event(session, job, "status", {"status": "queued"})
    return job


def claim_job(session: Session, claimant: Claimant, lease_seconds: float) -> Job | None:
    """Claim the most urgent runnable job for this attempt, by one conditional UPDATE.

    Among jobs of one priority, those of the key with the fewest running jobs come first, and then the oldest. So a key
    with many jobs does not keep the others waiting. All jobs without a key count as one key's.

    Returns None when there is none, or when other transactions hold the records of all of them: see `job_waits`, which
    costs less than a claim.
    """
    busy = (
        select(_KEY.label("key"), func.count().label("jobs"))
        .where(Job.lease_expires_at.is_not(None))
        .group_by(_KEY)
        .subquery()
    )
    candidate = (
        select(Job.id)
        .outerjoin(busy, busy.c.key == _KEY)
        .where(*_runnable_by(claimant))
        .order_by(Job.priority.desc(), func.coalesce(busy.c.jobs, 0), Job.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
        .scalar_subquery()
    )
    job = session.scalars(
        update(Job)
        .where(Job.id == candidate, Job.status == "queued")
        .values(
            status="running",
            attempt=Job.attempt + 1,
            worker=claimant.worker,
            lease_expires_at=func.clock_timestamp() + seconds(lease_seconds),
            started_at=func.coalesce(Job.started_at, func.now()),
        )
        .returning(Job),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if job is not None:
        add_event(session, job, "status", {"status": "running", "attempt": job.attempt, "worker": claimant.worker})
        count(session, "attempts_started", job.kind)
    return job


def job_waits(session: Session, claimant: Claimant) -> bool:
    """True when there is a job that the claimant may claim, whether or not its record is locked.

    While it returns True, a claim that finds nothing must be tried again, because its hint is used up: another
    transaction (a cancel, a promotion, a claim) holds the lock for a moment.
    """
    return session.scalar(select(Job.id).where(*_runnable_by(claimant)).limit(1)) is not None


def is_due_to_another_key(session: Session, lease: Lease, claimant: Claimant, patience_seconds: float) -> bool:
    """True when the claimant should hand the job back, so that a key without a running job gets a worker.

    It should when such a key has waited for `patience_seconds` with a job that the claimant can run, of no lower
    priority, and this job's key has others running. Only the newest of them is due, so that one worker at a time hands
    its job back. Locks nothing.
    """
    job = session.get_one(Job, lease.job_id)
    running = select(Job.id).where(Job.lease_expires_at.is_not(None), _KEY.in_([job.api_key_id or 0]))
    newest = session.scalars(running.order_by(Job.id.desc()).limit(2)).all()
    if len(newest) < 2 or newest[0] != job.id:
        return False
    other = aliased(Job)
    busy = select(func.coalesce(other.api_key_id, 0)).where(other.lease_expires_at.is_not(None))
    waiting = (
        *_runnable_by(claimant),
        Job.not_before <= func.now() - seconds(patience_seconds),
        Job.priority >= job.priority,
        _KEY.not_in(busy),
    )
    return session.scalar(select(Job.id).where(*waiting).limit(1)) is not None


def hold(session: Session, lease: Lease) -> Job:
    """Lock the job's record until the transaction ends and return it; raises LeaseLost unless the claim is valid.

    The lease is compared with the clock when the lock is there, because it may lapse during the wait for it.
    """
    of_attempt = select(Job).where(Job.id == lease.job_id, Job.attempt == lease.attempt)
    held = aliased(Job, of_attempt.with_for_update().cte())  # PostgreSQL moves conditions into a subquery
    job = session.scalars(
        select(held).where(held.lease_expires_at > func.clock_timestamp()).execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        raise LeaseLost(f"attempt {lease.attempt} at job {lease.job_id} is over")
    return job


def renew(session: Session, lease: Lease, lease_seconds: float) -> None:
    """Renew the lease; raises LeaseLost."""
    hold(session, lease).lease_expires_at = func.clock_timestamp() + seconds(lease_seconds)


def lease_seconds_left(session: Session, lease: Lease) -> float:
    """Seconds until the lease lapses, 0 or less when it has; raises LeaseLost. Locks nothing."""
    left = func.extract("epoch", Job.lease_expires_at - func.clock_timestamp())
    found = session.scalar(select(left).where(Job.id == lease.job_id, Job.attempt == lease.attempt))
    if found is None:
        raise LeaseLost(f"attempt {lease.attempt} at job {lease.job_id} is over")
    return float(found)


def cancel_requested(session: Session, lease: Lease) -> bool:
    """True when the job must be cancelled; raises LeaseLost when another attempt has begun. Locks nothing."""
    status = session.scalar(select(Job.status).where(Job.id == lease.job_id, Job.attempt == lease.attempt))
    if status not in ("running", "cancelling"):
        raise LeaseLost(f"attempt {lease.attempt} at job {lease.job_id} is over")
    return status == "cancelling"


def succeed(session: Session, lease: Lease) -> None:
    """Mark the job as succeeded; raises LeaseLost."""
    job = hold(session, lease)
    job.failure = None  # of an earlier attempt
    _end(session, job, "succeeded", attempt=lease.attempt)
    count(session, "attempts", "succeeded")


def fail(session: Session, lease: Lease, failure: Failure) -> None:
    """Mark the job as failed for good; raises LeaseLost."""
    job = hold(session, lease)
    job.failure = failure.as_json()
    _end(session, job, "failed", attempt=lease.attempt)
    count(session, "attempts", "failed")
    count(session, "failures", failure.kind)


def stop(session: Session, lease: Lease, failure: Failure | None = None, why: str = "the worker was stopped") -> None:
    """End the attempt of a run that has stopped. The job is cancelled if somebody asked for that, or else queued again.

    Queueing again counts as no failure. failure: the cause when the run was killed or stopped by itself; None when it
    was asked to stop, for the reason `why`, and has stored its state. Raises LeaseLost.
    """
    job = hold(session, lease)
    reason = failure.detail if failure else None
    job.failure = failure.as_json() if failure else None  # of an earlier attempt
    if job.status == "cancelling":
        _end(session, job, "cancelled", reason, attempt=lease.attempt)
        count(session, "attempts", "cancelled")
    else:
        _queue_again(session, job, reason=reason or why, attempt=lease.attempt)
        count(session, "attempts", "handed_back")
    if failure is not None:
        count(session, "failures", failure.kind)


def crash(session: Session, lease: Lease, failure: Failure) -> None:
    """End an attempt that failed; raises LeaseLost. The job runs again later, up to max_attempts without progress."""
    _after_bad_end(session, hold(session, lease), failure, lease.attempt)
    count(session, "attempts", "crashed")
    count(session, "failures", failure.kind)


def requeue_lapsed(session: Session, limit: int = 100) -> Sequence[Job]:
    """End claims whose lease has lapsed, and return their jobs. Two calls do no harm."""
    jobs = session.scalars(
        select(Job)
        .where(Job.lease_expires_at <= func.clock_timestamp())
        .order_by(Job.lease_expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        add_event(session, job, "lease_lapsed", {"attempt": job.attempt, "worker": job.worker})
        detail = (
            f"worker {job.worker} was lost in attempt {job.attempt}: it or its machine ended, or hung; often the "
            "memory of its container or machine ran out (OOMKilled); the worker's next start may log so"
        )
        _after_bad_end(session, job, Failure("worker_lost", detail), job.attempt)
    if jobs:
        count(session, "attempts", "lapsed", len(jobs))
        count(session, "failures", "worker_lost", len(jobs))
        count(session, "lease_lapses", "", len(jobs))
    return jobs


def fail_unservable(
    session: Session, patience_seconds: float, worker_fresh_seconds: float, limit: int = 100
) -> Sequence[Job]:
    """Fail and return jobs that waited for `patience_seconds` while no living worker had a working device for them.

    While no worker lives at all, nothing fails: the next one may have any device.
    """
    living = workers_alive(session, worker_fresh_seconds)
    if not living:
        return []
    most = most_devices(session, patience_seconds)
    unservable: list[ColumnElement[bool]] = [(Job.device == "cuda") & (Job.devices > most.get("cuda", 0))]
    if "cpu" not in most:
        unservable += [Job.device == "cpu", (Job.device == "auto") & (Job.devices > most.get("cuda", 0))]
    jobs = session.scalars(
        select(Job)
        .where(Job.status == "queued", Job.not_before <= func.now() - seconds(patience_seconds), or_(*unservable))
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    faults = "".join(f". Worker {one.name} is out of order: {one.device_fault}" for one in living if one.device_fault)
    for job in jobs:
        kind, otherwise = ("", "fewer devices") if job.device == "auto" else (f"{job.device} ", 'device "auto"')
        job.failure = Failure(
            "no_device",
            f"no worker offers {job.devices} {kind}device(s): start one that does, or submit the job with "
            f"{otherwise}{faults}",
        ).as_json()
        _end(session, job, "failed")
    if jobs:
        count(session, "failures", "no_device", len(jobs))
    return jobs


def request_cancel(session: Session, job_id: int) -> Job:
    """Cancel a queued job at once; ask the worker of a running one to stop. Raises JobNotFound, JobConflict."""
    job = lock_job(session, job_id)
    if job.status == "queued":
        _end(session, job, "cancelled")
    elif job.status == "running":
        job.status = "cancelling"
        add_event(session, job, "status", {"status": "cancelling"})
    elif job.status != "cancelling":
        raise JobConflict(f"job {job_id} has ended ({job.status}); there is nothing to cancel")
    return job


def requeue(session: Session, job_id: int, *, was: JobStatus, origin: Origin | None = None) -> Job:
    """Queue a finished job again. It goes on from its last checkpoint. Raises JobNotFound, JobConflict.

    origin: of the request that asks for it; None keeps the former one. Without a key, the job counts for the key with
    which it was queued before.
    """
    job = lock_job(session, job_id)
    if job.status != was:
        raise JobConflict(f"job {job_id} is {job.status}, not {was}")
    job.failures = 0
    job.failure = None
    job.finished_at = None
    job.removed = {}  # what the job stores from now on is kept until its next end
    if origin is not None:
        job.api_key_id = origin.api_key_id or job.api_key_id
        job.request_id, job.traceparent = origin.request_id, origin.traceparent
    _queue_again(session, job, reason=ASKED_FOR)
    return job


def get_job(session: Session, job_id: int) -> Job:
    """One job; raises JobNotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


def lock_job(session: Session, job_id: int) -> Job:
    """Lock the job's record until the transaction ends and return it; raises JobNotFound."""
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise JobNotFound(job_id)
    return job


def list_jobs(
    session: Session,
    *,
    kind: JobKind,
    before: int | None = None,
    limit: int = 50,
    status: JobStatus | None = None,
    model_name: str | None = None,
    owner: Owner | None = None,
) -> Sequence[Job]:
    """Up to `limit` jobs, newest first, with ids below `before`. owner: lists only jobs that it may use."""
    query = select(Job).where(Job.kind == kind).order_by(Job.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Job.id < before)
    if status is not None:
        query = query.where(Job.status == status)
    if model_name is not None:
        query = query.where(Job.model_name == model_name)
    if owner is not None:
        query = query.where(owned(Job.api_key_id, owner))
    return session.scalars(query).all()


def add_event(session: Session, job: Job, kind: str, data: Mapping[str, Any]) -> None:
    """Append an event. The caller has locked the job's record, so event numbers follow the order of commits."""
    job.event_count += 1
    session.add(JobEvent(job_id=job.id, number=job.event_count, kind=kind, data=dict(data)))


def events_after(session: Session, job_id: int, number: int, limit: int = 200) -> Sequence[JobEvent]:
    """Up to `limit` events of a job after the event with that number, in order."""
    return session.scalars(
        select(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.number > number)
        .order_by(JobEvent.number)
        .limit(limit)
    ).all()


def _runnable_by(claimant: Claimant) -> Sequence[ColumnElement[bool]]:
    mine = (
        [Job.device != "cuda"] if claimant.device == "cpu" else [Job.device != "cpu", Job.devices <= claimant.devices]
    )
    return [Job.status == "queued", Job.not_before <= func.now(), *mine]


def _after_bad_end(session: Session, job: Job, failure: Failure, attempt: int) -> None:
    job.failures += 1
    job.failure = failure.as_json()
    if job.status == "cancelling":
        _end(session, job, "cancelled", attempt=attempt)
    elif job.failures >= job.max_attempts:
        _end(session, job, "failed", attempt=attempt)
    else:
        wait = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** (job.failures - 1))
        _queue_again(session, job, reason=failure.detail, wait_seconds=wait, attempt=attempt)


def _queue_again(
    session: Session, job: Job, *, reason: str, wait_seconds: float = 0.0, attempt: int | None = None
) -> None:
    job.status = "queued"
    job.lease_expires_at = None
    job.worker = None
    job.not_before = func.now() + seconds(wait_seconds)
    data = {"status": "queued", "reason": reason, "wait_seconds": wait_seconds}
    add_event(session, job, "status", data | _of_attempt(attempt))


def _end(
    session: Session, job: Job, status: JobStatus, reason: str | None = None, *, attempt: int | None = None
) -> None:
    job.status = status
    job.lease_expires_at = None
    job.worker = None
    job.finished_at = func.now()
    data: dict[str, Any] = {"status": status} | ({"reason": reason} if reason else {}) | _of_attempt(attempt)
    if status == "failed":
        data["failure"] = job.failure
    add_event(session, job, "status", data)
    count(session, "jobs_finished", f"{job.kind}:{status}")


def _of_attempt(attempt: int | None) -> dict[str, int]:
    """Name the attempt that an event ends; None when no worker held the job.

    The history of a job then shows a write of an attempt that was over (`python -m bench.history`).
    """
    return {} if attempt is None else {"attempt": attempt}
