"""Ends a successful training job and promotes its best checkpoint."""

from sqlalchemy.orm import Session

from darkroom.model.training.finding import JUDGED_FROM
from darkroom.store.aliases import move_alias, version_facts
from darkroom.store.audit_repository import Actor
from darkroom.store.job_repository import Lease, add_event, hold, succeed
from darkroom.store.model_repository import PRODUCTION, lock_model
from darkroom.store.tables import Checkpoint, Job, JobCheckpoint


def succeed_training(session: Session, lease: Lease) -> None:
    """Mark a train job as succeeded, and promote its best checkpoint if it asks for that; raises LeaseLost."""
    promote_best(session, hold(session, lease))
    succeed(session, lease)


def promote_best(session: Session, job: Job) -> Checkpoint | None:
    """Point production at the best checkpoint of a job that asks for it, or at its last one if none was evaluated.

    If the recipe asks for evaluations and all of them failed, nobody knows which checkpoint is good, and production
    stays. It also stays when the early verdict on the checkpoint is a failure. The job's newest verdict counts where
    the checkpoint has none, or has one from a time at which pictures are not judged. The caller has locked the job's
    record and ends the job in the same transaction. Returns None when nothing is promoted.
    """
    if job.promote != "best":
        return None
    model = lock_model(session, job.model_name)
    best_id = job.best_checkpoint_id
    if best_id is None and job.configuration["recipe"]["evaluation"] is not None:
        add_event(session, job, "not_promoted", {"reason": "no checkpoint could be evaluated"})
        return None
    if best_id is None:
        saved = session.get(JobCheckpoint, (job.id, job.images_done))
        best_id = saved.checkpoint_id if saved else None
    checkpoint = session.get(Checkpoint, best_id) if best_id is not None else None
    if checkpoint is None or checkpoint.artifact_digest is None:
        return None
    judged = checkpoint.verdict is not None and checkpoint.verdict["images_seen"] >= JUDGED_FROM * job.images_done
    verdicts = (checkpoint.verdict, None if judged else job.verdict)
    findings = [one for verdict in verdicts if verdict for one in verdict["findings"]]
    faults = dict.fromkeys(one["advice"] for one in findings if one["severity"] == "failure")
    if faults:
        add_event(session, job, "not_promoted", {"reason": "; ".join(faults)})
        return None
    move_alias(session, Actor(f"train job {job.id}", job.api_key_id), model, PRODUCTION, checkpoint)
    add_event(session, job, "promoted", version_facts(checkpoint))
    return checkpoint
