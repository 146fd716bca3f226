"""Deletes data sets, models, versions' weights, ended jobs and sweeps, after a look at what uses them.

`store.artifacts.collect_artifacts` deletes the bytes later, once nothing refers to them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from darkroom.store import idempotency
from darkroom.store.aliases import move_alias, version_facts
from darkroom.store.audit_repository import Actor, record
from darkroom.store.dataset_repository import get_dataset, lock_dataset
from darkroom.store.generate_repository import lock_generate_job, lock_jobs
from darkroom.store.job_repository import UNFINISHED, JobNotFound, lock_job
from darkroom.store.model_repository import PRODUCTION, lock_model, resolve_kept
from darkroom.store.owners import Owner, require_owned
from darkroom.store.retention import note_removed
from darkroom.store.sweep_repository import get_sweep
from darkroom.store.tables import Checkpoint, Dataset, GenerateJob, Job, JobCheckpoint, Model, ModelAlias

MOST_JOBS = 100
"""How many jobs of a kind a refusal names. Jobs that prevent the deletion come first."""

_IN_MESSAGE = 5
_MARKED = "is marked to be kept"


@dataclass(frozen=True, slots=True)
class Dependent:
    """A thing that uses what is to be deleted. resource: its path below /v1, such as "train-jobs/3".

    reason: how it uses it. blocks: prevents the deletion even with `force`.
    """

    resource: str
    reason: str
    blocks: bool


class InUse(RuntimeError):
    """Something uses what is to be deleted."""

    def __init__(self, what: str, dependents: Sequence[Dependent]) -> None:
        blocking = [one for one in dependents if one.blocks]
        named = blocking or dependents
        listed = ", ".join(f"{one.resource} {one.reason}" for one in named[:_IN_MESSAGE])
        more = f" and {len(named) - _IN_MESSAGE} more" if len(named) > _IN_MESSAGE else ""
        advice = (
            "cancel, move or unmark these first"
            if blocking
            else "to delete it anyway, ask with force=true (--force on the command line)"
        )
        super().__init__(f"{what} is in use: {listed}{more}; {advice}")
        self.dependents = dependents


def delete_dataset(
    session: Session, actor: Actor, name: str, *, force: bool = False, owner: Owner | None = None
) -> None:
    """Delete a data set. With `force` also one that ended jobs were trained on; they stay, without a data set.

    owner: who deletes it; None for somebody who may delete all. Raises DatasetNotFound, OwnedByAnother, InUse.
    """
    used = Job.dataset_id == get_dataset(session, name, owner).id
    session.execute(select(Job.id).where(used).with_for_update())  # before the data set, as a submission locks them
    dataset = lock_dataset(session, name)
    marked = [Dependent(f"datasets/{name}", _MARKED, blocks=True)] * dataset.keep
    _require_unused(f"the data set {name!r}", [*marked, *_jobs_on(session, dataset)], force=force)
    session.execute(update(Job).where(Job.dataset_id == dataset.id).values(dataset_id=None))
    idempotency.forget(session, idempotency.DATASETS, dataset.id)
    facts = {"digest": dataset.digest, "images": dataset.image_count}
    session.delete(dataset)
    record(session, actor, "dataset.deleted", f"datasets/{name}", facts)


def delete_version(session: Session, actor: Actor, name: str, version: str, *, force: bool = False) -> Checkpoint:
    """Delete a version's weights, and with `force` the aliases that point at it. Its record and figures stay.

    Raises ModelNotFound, VersionNotFound, VersionCollected, InUse.
    """
    model = lock_model(session, name)
    checkpoint = resolve_kept(session, name, version)
    aliases = session.scalars(
        select(ModelAlias.alias).where(ModelAlias.checkpoint_id == checkpoint.id).order_by(ModelAlias.alias)
    ).all()
    target = f"models/{name}/versions/{checkpoint.version}"
    marked = [Dependent(target, _MARKED, blocks=True)] * checkpoint.keep
    pointing = [Dependent(f"models/{name}/alias/{one}", "points at it", one == PRODUCTION) for one in aliases]
    jobs = [*_train_jobs_with(session, model, checkpoint), *_generate_jobs_of(session, checkpoint)]
    _require_unused(f"model {name!r} version {checkpoint.version}", [*marked, *pointing, *jobs], force=force)
    for alias in aliases:
        move_alias(session, actor, model, alias, None)
    checkpoint.artifact_digest = None
    record(session, actor, "version.deleted", target, version_facts(checkpoint))
    return checkpoint


def delete_model(session: Session, actor: Actor, name: str, *, force: bool = False) -> Sequence[str]:
    """Delete a model with all versions, figures and aliases, and return the digests of its versions.

    The jobs that trained it stay, without checkpoints and states. The generate jobs that drew with it go with their
    results. Raises ModelNotFound, InUse.
    """
    # a worker locks its job before the model, too
    jobs = session.scalars(
        select(Job).where(Job.is_training, Job.model_name == name).order_by(Job.id).with_for_update()
    ).all()
    model = lock_model(session, name)
    checkpoints = session.scalars(select(Checkpoint).where(Checkpoint.model_id == model.id)).all()
    ids = [one.id for one in checkpoints]
    aliases = session.execute(
        select(ModelAlias.alias, Checkpoint.version)
        .join(Checkpoint, Checkpoint.id == ModelAlias.checkpoint_id)
        .where(ModelAlias.model_id == model.id)
        .order_by(ModelAlias.alias)
    ).all()
    drawn = GenerateJob.checkpoint_id.in_(ids)
    marked = [
        Dependent(f"models/{name}/versions/{one.version}", _MARKED, blocks=True) for one in checkpoints if one.keep
    ]
    pointing = [Dependent(f"models/{name}/alias/{alias}", f"points at version {to}", False) for alias, to in aliases]
    dependents = [
        *marked,
        *pointing,
        *_in_order([*_trained(session, jobs, ids), *_beginning_with(session, model)]),
        *_in_order(list(_drew(session, drawn))),
    ]
    _require_unused(f"the model {name!r}", dependents, force=force)
    for number in session.scalars(select(GenerateJob.id).where(drawn)).all():
        _remove_generate_job(session, number)
    for alias, _ in aliases:
        move_alias(session, actor, model, alias, None)
    for job in jobs:
        job.best_checkpoint_id = None
        if session.scalar(delete(JobCheckpoint).where(JobCheckpoint.job_id == job.id).returning(JobCheckpoint.job_id)):
            note_removed(session, job, "states", "deleted with its model")
    digests = [one.digest for one in checkpoints]
    record(session, actor, "model.deleted", f"models/{name}", {"versions": len(digests)})
    session.flush()
    session.execute(delete(Model).where(Model.id == model.id))
    return digests


def delete_train_job(
    session: Session, actor: Actor, job_id: int, *, force: bool = False, owner: Owner | None = None
) -> None:
    """Delete an ended train job with its states, sample grids, curve, log and events. Its versions stay.

    owner: as for `delete_dataset`. Raises JobNotFound, OwnedByAnother, InUse.
    """
    job = lock_job(session, job_id)
    if not job.is_training:
        raise JobNotFound(job_id)
    require_owned(session, job, owner)
    sweep = [Dependent(f"sweeps/{job.sweep_id}", "compares it with others", False)] * (job.sweep_id is not None)
    _require_unused(f"train job {job_id}", [*_needing(session, job), *sweep], force=force)
    _remove_train_job(session, job)
    record(session, actor, "train-job.deleted", f"train-jobs/{job_id}", {"model": job.model_name})


def delete_sweep(
    session: Session, actor: Actor, sweep_id: int, *, force: bool = False, owner: Owner | None = None
) -> None:
    """Delete a sweep with its train jobs, as `delete_train_job` does; with jobs only by `force`.

    owner: as for `delete_dataset`. Raises SweepNotFound, OwnedByAnother, InUse.
    """
    sweep = get_sweep(session, sweep_id, owner)
    jobs = session.scalars(select(Job).where(Job.sweep_id == sweep_id).order_by(Job.id).with_for_update()).all()
    own = {f"train-jobs/{job.id}" for job in jobs}
    needing = [one for job in jobs for one in _needing(session, job) if one.blocks or one.resource not in own]
    stopped = {one.resource for one in needing}
    going = [
        Dependent(f"train-jobs/{job.id}", f"({job.status}) is deleted with it", False)
        for job in jobs
        if f"train-jobs/{job.id}" not in stopped
    ]
    _require_unused(f"sweep {sweep_id}", [*needing, *going], force=force)
    for job in jobs:
        _remove_train_job(session, job)
    idempotency.forget(session, idempotency.SWEEPS, sweep_id)
    facts = {"name": sweep.name, "jobs": len(jobs)}
    session.flush()
    session.delete(sweep)
    record(session, actor, "sweep.deleted", f"sweeps/{sweep_id}", facts)


def delete_generate_job(session: Session, actor: Actor, generate_job_id: int, *, owner: Owner | None = None) -> None:
    """Delete an ended generate job with its result. owner: as for `delete_dataset`.

    Raises GenerateJobNotFound, OwnedByAnother, InUse.
    """
    generate_job = lock_generate_job(session, generate_job_id)
    require_owned(session, generate_job, owner)
    active = [one for one in _drew(session, GenerateJob.id == generate_job_id) if one.blocks]
    _require_unused(f"generate job {generate_job_id}", active, force=False)
    _remove_generate_job(session, generate_job_id)
    record(
        session,
        actor,
        "generate-job.deleted",
        f"generate-jobs/{generate_job_id}",
        {"images": generate_job.total_images},
    )


def _remove_train_job(session: Session, job: Job) -> None:
    session.execute(update(Job).where(Job.parent_id == job.id).values(parent_id=None))
    idempotency.forget(session, idempotency.TRAIN_JOBS, job.id)
    session.delete(job)
    session.flush()


def _remove_generate_job(session: Session, generate_job_id: int) -> None:
    generate_job = lock_generate_job(session, generate_job_id)
    for job in lock_jobs(session, generate_job_id):
        session.delete(job)
    idempotency.forget(session, idempotency.GENERATE_JOBS, generate_job_id)
    session.flush()
    session.delete(generate_job)
    session.flush()


def _in_order(dependents: Sequence[Dependent]) -> Sequence[Dependent]:
    """Return at most MOST_JOBS of them, those that prevent the deletion first."""
    return sorted(dependents, key=lambda one: not one.blocks)[:MOST_JOBS]


def _needing(session: Session, job: Job) -> Iterator[Dependent]:
    """Yield what prevents or follows the deletion of a train job."""
    here = f"train-jobs/{job.id}"
    if job.status in UNFINISHED:
        yield Dependent(here, f"is {job.status}", blocks=True)
    if job.keep:
        yield Dependent(here, _MARKED, blocks=True)
    unfinished = Job.status.in_(UNFINISHED)
    children = select(Job.id, Job.status, unfinished).where(Job.parent_id == job.id)
    for child, status, blocks in session.execute(children.order_by(unfinished.desc(), Job.id.desc()).limit(MOST_JOBS)):
        reason = f"({status}) begins with its state" if blocks else f"({status}) has continued it"
        yield Dependent(f"train-jobs/{child}", reason, blocks)


def _trained(session: Session, jobs: Sequence[Job], checkpoint_ids: Sequence[int]) -> Iterator[Dependent]:
    """Yield the jobs that train a model, or have trained it. jobs: newest last."""
    saved = set(session.scalars(select(JobCheckpoint.job_id).where(JobCheckpoint.checkpoint_id.in_(checkpoint_ids))))
    for job in reversed(jobs):
        here = f"train-jobs/{job.id}"
        if job.status in UNFINISHED:
            yield Dependent(here, f"({job.status}) trains it", blocks=True)
        elif job.id in saved and job.keep:
            yield Dependent(here, f"({job.status}) has trained it and {_MARKED}", blocks=True)
        elif job.id in saved:
            yield Dependent(here, f"({job.status}) has trained it, and loses its checkpoints and states", blocks=False)


def _beginning_with(session: Session, model: Model) -> Iterator[Dependent]:
    """Yield the unfinished jobs of other models that begin with a model's weights."""
    begins: ColumnElement[bool] = Job.configuration["start"]["model"].as_string() == model.name
    others = (Job.is_training, Job.model_name != model.name, Job.status.in_(UNFINISHED))
    for job_id, status in session.execute(select(Job.id, Job.status).where(*others, begins).order_by(Job.id.desc())):
        yield Dependent(f"train-jobs/{job_id}", f"({status}) begins with its weights", blocks=True)


def _drew(session: Session, which: ColumnElement[bool]) -> Iterator[Dependent]:
    """Yield generate jobs as dependents of their model, the newest first."""
    query = select(GenerateJob.id, _drawing()).where(which).order_by(GenerateJob.id.desc())
    for generate_job_id, blocks in session.execute(query):
        reason = "is not finished" if blocks else "has drawn with it, and is deleted with its result"
        yield Dependent(f"generate-jobs/{generate_job_id}", reason, blocks)


def _drawing() -> ColumnElement[bool]:
    """Return the condition that a generate job has unfinished jobs."""
    return select(1).where(Job.generate_job_id == GenerateJob.id, Job.status.in_(UNFINISHED)).exists()


def _require_unused(what: str, dependents: Sequence[Dependent], *, force: bool) -> None:
    if any(one.blocks or not force for one in dependents):
        raise InUse(what, dependents)


def _jobs_on(session: Session, dataset: Dataset) -> Iterator[Dependent]:
    unfinished = Job.status.in_(UNFINISHED)
    query = select(Job.id, Job.status, unfinished).where(Job.dataset_id == dataset.id)
    for job_id, status, blocks in session.execute(query.order_by(unfinished.desc(), Job.id.desc()).limit(MOST_JOBS)):
        yield Dependent(f"train-jobs/{job_id}", f"({status}) trains on it" if blocks else f"({status}) used it", blocks)


def _train_jobs_with(session: Session, model: Model, checkpoint: Checkpoint) -> Iterator[Dependent]:
    start = Job.configuration["start"]
    begins = (start["digest"].as_string() == checkpoint.digest) & (start["model"].as_string() == model.name)
    saved = select(1).where(JobCheckpoint.job_id == Job.id, JobCheckpoint.checkpoint_id == checkpoint.id).exists()
    unfinished = Job.status.in_(UNFINISHED)
    query = (
        select(Job.id, Job.status, unfinished)
        .where(Job.is_training, (unfinished & (begins | saved)) | (Job.best_checkpoint_id == checkpoint.id))
        .order_by(unfinished.desc(), Job.id.desc())
        .limit(MOST_JOBS)
    )
    for job_id, status, blocks in session.execute(query):
        reason = f"({status}) saved it or begins with it" if blocks else f"({status}) has it as its best"
        yield Dependent(f"train-jobs/{job_id}", reason, blocks)


def _generate_jobs_of(session: Session, checkpoint: Checkpoint) -> Iterator[Dependent]:
    drawing = _drawing()
    query = (
        select(GenerateJob.id, drawing)
        .where(GenerateJob.checkpoint_id == checkpoint.id, GenerateJob.result_digest.is_(None))
        .order_by(drawing.desc(), GenerateJob.id.desc())
        .limit(MOST_JOBS)
    )
    for generate_job_id, blocks in session.execute(query):
        reason = "draws with it" if blocks else "can then no longer be retried"
        yield Dependent(f"generate-jobs/{generate_job_id}", reason, blocks)
