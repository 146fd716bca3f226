"""The function that does each kind of job. A new kind is an entry here and a name in `store.tables.JobKind`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from darkroom.store.generate_repository import succeed_shard
from darkroom.store.job_repository import Lease, succeed
from darkroom.store.promotion import succeed_training
from darkroom.store.run_repository import kept_states
from darkroom.store.tables import JobKind


def _stored(session: Session, job_id: int) -> str:
    return "everything that it stored is kept"


def _last_checkpoint(session: Session, job_id: int) -> str:
    states = kept_states(session, job_id)
    return f"its last checkpoint is at {states[0][0]} images" if states else "it has no checkpoint"


@dataclass(frozen=True)
class KindOfWork:
    """work: MODULE:FUNCTION, imported by the work process alone. It takes a `worker.attempt.Attempt` and returns True
    when the job is done, False when it was stopped.

    succeed: ends a job that is done. kept: says in the failure of a job whose work was killed what is left of it.
    """

    work: str
    succeed: Callable[[Session, Lease], None] = succeed
    kept: Callable[[Session, int], str] = _stored


KINDS: Mapping[JobKind, KindOfWork] = {
    "train": KindOfWork("darkroom.worker.training:train_job", succeed_training, _last_checkpoint),
    "sample": KindOfWork("darkroom.worker.shard_drawing:draw_shard", succeed_shard),
    "assemble": KindOfWork("darkroom.worker.assembling:assemble"),
}
