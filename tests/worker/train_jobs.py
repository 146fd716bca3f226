"""Train jobs on a real database. A supervisor in the tests' process runs them, with faults on request."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from sqlalchemy import func, select, text, update

from darkroom.model.config import Recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.digest import digest_of
from darkroom.model.training.run import StartingPoint, train
from darkroom.model.training.run_record import FolderRecord
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import events_after, submit_job
from darkroom.store.run_repository import job_checkpoints, log_after
from darkroom.store.tables import Artifact, Checkpoint, Job, JobEvent
from darkroom.worker import supervisor
from darkroom.worker.device_check import DeviceCheck
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.supervisor import WORK, Supervisor
from tests.model.small import random_dataset, small_recipe, small_unet
from tests.system.cluster import Jobs
from tests.warm import SUBPROCESS

IMAGES = 40
EVERY = 80
"""Images between two checkpoints."""

TOTAL = 240
BATCH = 8


def short_recipe(**changes: Any) -> Recipe:
    """A recipe of less than a second, with three checkpoints."""
    tiny = small_unet(width=8, multipliers=(1,), attention_resolutions=(), norm_groups=2, dropout=0.2)
    settings: dict[str, Any] = {
        "model__unet": tiny.model_dump(),
        "training__total_images": TOTAL,
        "training__batch_size": BATCH,
        "training__checkpoint_every_images": EVERY,
        "training__sample_every_images": TOTAL,
    }
    return small_recipe(**(settings | changes))


@cache
def dataset() -> ImageDataset:
    """The data set that `TrainJobs.register` registers."""
    made = random_dataset(IMAGES)
    return replace(made, digest=content_digest(made.images, made.labels, made.class_names))


def trained(recipe: Recipe, folder: Path, start: StartingPoint | None = None) -> str:
    """Train in this process without faults; returns the digest of the last weights."""
    record = FolderRecord(folder, recipe.name)
    train(recipe, dataset(), record, device=torch.device("cpu"), start=start)
    return digest_of(record.checkpoint_path(recipe.training.total_images).read_bytes())


class TrainJobs(Jobs):
    """Train jobs, and a supervisor that runs them."""

    def __init__(self, folder: Path, database: Database, settings: WorkerSettings) -> None:
        super().__init__(folder, database)
        self.settings = settings

    def train_job(self, recipe: Recipe, dataset_id: int | None = None, *, work: Any = None, **fields: Any) -> int:
        """Queue a job; returns its id. work: further fields of `TrainWork`."""
        form = TrainWork(recipe=recipe, **(work or {}))
        configured = {"configuration": form.model_dump(mode="json"), "total_images": recipe.training.total_images}
        with self.database.session() as session:
            settings: dict[str, Any] = {"kind": "train", "model_name": recipe.name, "dataset_id": dataset_id}
            return submit_job(session, **(settings | configured | fields)).id

    def run(self, *faults: str) -> None:
        """Run one attempt at the most urgent job, without a wait, with faults of `tests/worker/broken_work.py`."""
        with self.database.session() as session:
            session.execute(update(Job).values(not_before=func.now()))
        work = (WORK[0], "-m", "tests.worker.broken_work", ",".join(faults)) if faults else WORK
        device = DeviceCheck(self.settings.tested_devices())
        with mock.patch.object(supervisor, "subprocess", SUBPROCESS):
            assert Supervisor(self.settings, self.database, lambda: False, device, work).run_next()

    def outcome(self, job_id: int) -> tuple[str, str | None, int]:
        """Return (status, kind of failure, attempt)."""
        found = self.job(job_id)
        return found.status, found.failure["kind"] if found.failure else None, found.attempt

    def detail(self, job_id: int) -> str:
        """Return the detail of the job's failure."""
        failure = self.job(job_id).failure
        return failure["detail"] if failure else ""

    def saved(self, job_id: int) -> dict[int, tuple[Checkpoint, str | None]]:
        """Map images seen to (checkpoint, digest of the state), in order."""
        with self.database.session() as session:
            rows = job_checkpoints(session, job_id)
        return {row.images_seen: (checkpoint, row.state_digest) for row, checkpoint in reversed(rows)}

    def weights(self, job_id: int) -> str:
        """Return the digest of the job's last weights."""
        return list(self.saved(job_id).values())[-1][0].digest

    def state(self, job_id: int, images_seen: int) -> str:
        """Return the digest of the state at `images_seen`."""
        digest = self.saved(job_id)[images_seen][1]
        assert digest is not None
        return digest

    def events(self, job_id: int) -> list[JobEvent]:
        """Return all events of the job."""
        with self.database.session() as session:
            return list(events_after(session, job_id, 0))

    def log(self, job_id: int) -> list[str]:
        """Its lines."""
        with self.database.session() as session:
            return [line.line for line in log_after(session, job_id, 0)]

    def flip(self, digest: str) -> None:
        """Flip a bit in the middle of the stored bytes. A second call repairs them."""
        self.sql(
            "UPDATE artifact_chunks SET data = set_bit(data, length(data) * 4, 1 - get_bit(data, length(data) * 4)) "
            f"WHERE digest = '{digest}' AND position = 0"
        )

    def get(self, digest: str) -> bytes:
        """Stored bytes."""
        with self.database.session() as session:
            return Artifacts(session).get(digest)

    def stored(self) -> set[str]:
        """Return the digests of all artifacts."""
        with self.database.session() as session:
            return set(session.scalars(select(Artifact.digest)))

    def sql(self, statement: str) -> None:
        """Run a statement on the database directly."""
        with self.database.session() as session:
            session.execute(text(statement))
