"""Deletes data sets and the weights of model versions, after a look at what uses them.

`store.artifacts.collect_artifacts` deletes the bytes later, once nothing refers to them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from darkroom.store import idempotency
from darkroom.store.aliases import move_alias, version_facts
from darkroom.store.audit_repository import Actor, record
from darkroom.store.dataset_repository import get_dataset, lock_dataset
from darkroom.store.job_repository import UNFINISHED
from darkroom.store.model_repository import PRODUCTION, lock_model, resolve_kept
from darkroom.store.tables import Checkpoint, Dataset, GenerateJob, Job, JobCheckpoint, Model, ModelAlias

MOST_JOBS = 100
"""How many jobs of a kind a refusal names. Jobs that prevent the deletion come first."""

_IN_MESSAGE = 5


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
        advice = "cancel or move these first" if blocking else "to delete it anyway, ask again with force"
        super().__init__(f"{what} is in use: {listed}{more}; {advice}")
        self.dependents = dependents


def delete_dataset(session: Session, actor: Actor, name: str, scope: str, *, force: bool = False) -> None:
    """Delete a data set. With `force` also one that ended jobs were trained on; they stay, without a data set.

    scope: of the idempotency keys that created data sets; those of this one become unused. Raises DatasetNotFound,
    InUse.
    """
    used = Job.dataset_id == get_dataset(session, name).id
    session.execute(select(Job.id).where(used).with_for_update())  # before the data set, as a submission locks them
    dataset = lock_dataset(session, name)
    _require_unused(f"the data set {name!r}", list(_jobs_on(session, dataset)), force=force)
    session.execute(update(Job).where(Job.dataset_id == dataset.id).values(dataset_id=None))
    idempotency.forget(session, scope, dataset.id)
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
    pointing = [Dependent(f"models/{name}/alias/{one}", "points at it", one == PRODUCTION) for one in aliases]
    jobs = [*_train_jobs_with(session, model, checkpoint), *_generate_jobs_of(session, checkpoint)]
    _require_unused(f"model {name!r} version {checkpoint.version}", [*pointing, *jobs], force=force)
    for alias in aliases:
        move_alias(session, actor, model, alias, None)
    checkpoint.artifact_digest = None
    target = f"models/{name}/versions/{checkpoint.version}"
    record(session, actor, "version.deleted", target, version_facts(checkpoint))
    return checkpoint


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
    drawing = select(1).where(Job.generate_job_id == GenerateJob.id, Job.status.in_(UNFINISHED)).exists()
    query = (
        select(GenerateJob.id, drawing)
        .where(GenerateJob.checkpoint_id == checkpoint.id, GenerateJob.result_digest.is_(None))
        .order_by(drawing.desc(), GenerateJob.id.desc())
        .limit(MOST_JOBS)
    )
    for generate_job_id, blocks in session.execute(query):
        reason = "draws with it" if blocks else "can then no longer be retried"
        yield Dependent(f"generate-jobs/{generate_job_id}", reason, blocks)
