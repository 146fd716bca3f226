"""The checkpoints of a training job that are kept; the others are deleted."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session, aliased

from darkroom.store.job_repository import UNFINISHED
from darkroom.store.tables import (
    Checkpoint,
    GenerateJob,
    Job,
    JobCheckpoint,
    ModelAlias,
)

STATES_KEPT = 2
"""How many states a job keeps: the newest, and one more in case it is damaged."""


def retain(session: Session, job: Job, keep_last: int) -> None:
    """Delete states and weights that are no longer needed.

    The newest states stay. So do the last few weights, the best of every job, those with an alias, and those from which
    an unfinished job begins. `register_checkpoint` has locked the model's record, so no alias moves meanwhile.
    `store.artifacts.collect_artifacts` deletes the bytes once nothing refers to them.
    """
    saved = select(JobCheckpoint.images_seen).where(JobCheckpoint.job_id == job.id)
    newest = saved.where(JobCheckpoint.state_digest.is_not(None)).order_by(JobCheckpoint.images_seen.desc())
    child = aliased(Job)
    begins_there = (
        select(1)
        .where(
            child.parent_id == job.id,
            child.status.in_(UNFINISHED),
            child.configuration["start"]["images_seen"].as_integer() == JobCheckpoint.images_seen,
        )
        .exists()
    )
    session.execute(
        update(JobCheckpoint)
        .where(
            JobCheckpoint.job_id == job.id,
            JobCheckpoint.images_seen.not_in(newest.limit(STATES_KEPT)),
            ~begins_there,
        )
        .values(state_digest=None)
    )
    mine = select(JobCheckpoint.checkpoint_id).where(JobCheckpoint.job_id == job.id)
    last = mine.order_by(JobCheckpoint.images_seen.desc()).limit(keep_last)
    of_others = (JobCheckpoint.checkpoint_id == Checkpoint.id) & (JobCheckpoint.job_id != job.id)
    begins_with = (
        child.is_training,
        child.status.in_(UNFINISHED),
        child.configuration["start"]["digest"].as_string() == Checkpoint.digest,
    )
    drawn_from = (GenerateJob.checkpoint_id == Checkpoint.id) & GenerateJob.result_digest.is_(None)
    session.execute(
        update(Checkpoint)
        .where(
            Checkpoint.id.in_(mine),
            Checkpoint.id.not_in(last),
            ~select(1).where(of_others).exists(),
            ~select(1).where(*begins_with).exists(),
            ~select(1).where(drawn_from).exists(),
            ~select(1).where(Job.best_checkpoint_id == Checkpoint.id).exists(),
            ~select(1).where(ModelAlias.checkpoint_id == Checkpoint.id).exists(),
        )
        .values(artifact_digest=None)
        .execution_options(synchronize_session=False)
    )
