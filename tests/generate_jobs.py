"""Generate jobs on a real database, run in the tests' process as a worker runs them."""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from sqlalchemy import func, select, update

from darkroom.model.config import SamplingConfig
from darkroom.model.images.archive import ArchiveFacts, image_archive
from darkroom.store.artifacts import Artifacts
from darkroom.store.clock import seconds
from darkroom.store.database import Database
from darkroom.store.generate_repository import (
    assemble_what_is_ready,
    get_generate_job,
    progress_of,
    retry_generate_job,
    submit_generate_job,
)
from darkroom.store.job_forms import GenerateRun
from darkroom.store.job_repository import Claimant, Lease, claim_job, requeue_lapsed, stop, succeed
from darkroom.store.model_repository import resolve
from darkroom.store.tables import GeneratePart, Job
from darkroom.worker.attempt import Attempt
from darkroom.worker.job_kinds import KINDS
from tests.app.served import store_weights, tiny_weights

LEASE_SECONDS = 600.0
CPU = torch.device("cpu")
RUN: dict[str, Any] = {
    "class_indices": (2, 0, 3),
    "images_per_class": 4,
    "seed": 11,
    "sampling": SamplingConfig(guidance=2.0, sampler="ddim", steps=4),
    "format": "npz",
}
"""A request for twelve images of the tiny model."""


def submit(database: Database, shard_images: int = 5, **changes: Any) -> int:
    """Queue a generate job of the tiny model; returns its id."""
    digest = store_weights(database, tiny_weights())
    run = GenerateRun.model_validate(RUN | changes)
    with database.session() as session:
        checkpoint = resolve(session, "tiny", digest)
        return submit_generate_job(session, checkpoint, run, shard_images=shard_images)[0].id


def claim(database: Database) -> tuple[Job, Lease]:
    """Claim the most urgent job, which must be there."""
    with database.session() as session:
        job = claim_job(session, Claimant("test", "cpu"), LEASE_SECONDS)
    assert job is not None
    return job, Lease(job.id, job.attempt)


def attempt(job: Job, lease: Lease, database: Database, should_stop: Callable[[], bool] = lambda: False) -> Attempt:
    """Make an attempt at a job, on the CPU."""
    return Attempt(job, lease, database, CPU, should_stop, Path("unused"))


def carry_out(database: Database, job: Job, lease: Lease) -> bool:
    """Run a shard or an assemble job; returns true when it was finished, false when it was stopped."""
    finished: bool = resolve_name(KINDS[job.kind].work)(attempt(job, lease, database))
    if finished:
        with database.session() as session:
            succeed(session, lease)
    return finished


def hand_back(database: Database, lease: Lease) -> None:
    """End a stopped attempt: its job is cancelled if somebody asked for that, otherwise queued again."""
    with database.session() as session:
        stop(session, lease)


def finish(database: Database, generate_job_id: int) -> bytes:
    """Run all jobs, and the reconciler between them; returns the result's bytes."""
    while result_digest(database, generate_job_id) is None:
        with database.session() as session:
            assemble_what_is_ready(session)
        carry_out(database, *claim(database))
    return result(database, generate_job_id)


def let_lapse(database: Database) -> None:
    """Let all claims lapse, run the reconciler, and remove the wait before the next attempt."""
    with database.session() as session:
        session.execute(
            update(Job).where(Job.lease_expires_at.is_not(None)).values(lease_expires_at=func.now() - seconds(1.0))
        )
    with database.session() as session:
        requeue_lapsed(session)
        session.flush()
        session.execute(update(Job).values(not_before=func.now()))


def retry(database: Database, generate_job_id: int) -> None:
    """Queue failed and cancelled jobs again, like POST .../retry."""
    with database.session() as session:
        retry_generate_job(session, generate_job_id)


def rebuilt(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """Make the npz of these arrays with other facts."""
    images = arrays["images"]
    count, height, width, channels = images.shape
    file = BytesIO()
    described, shape = ArchiveFacts(facts, {}, {}), (height, width, channels)
    with image_archive("npz", file, described, images=count, image_shape=shape) as archive:
        archive.add(images, arrays["labels"], arrays["indices"])
        archive.finish()
    return file.getvalue()


def result_digest(database: Database, generate_job_id: int) -> str | None:
    """Return the digest of the finished archive."""
    with database.session() as session:
        return get_generate_job(session, generate_job_id)[0].result_digest


def result(database: Database, generate_job_id: int) -> bytes:
    """Return the finished archive."""
    digest = result_digest(database, generate_job_id)
    assert digest is not None
    with database.session() as session:
        return Artifacts(session).get(digest)


def status(database: Database, generate_job_id: int) -> str:
    """Return the status that the API shows."""
    with database.session() as session:
        row, _ = get_generate_job(session, generate_job_id)
        return progress_of(session, [row])[row.id].status


def images_done(database: Database, generate_job_id: int) -> int:
    """Return the number of images that the API shows as done."""
    with database.session() as session:
        row, _ = get_generate_job(session, generate_job_id)
        return progress_of(session, [row])[row.id].images_done


def parts(database: Database) -> list[GeneratePart]:
    """Return all stored parts, in order."""
    with database.session() as session:
        return list(
            session.scalars(select(GeneratePart).order_by(GeneratePart.generate_job_id, GeneratePart.first_row))
        )


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """Read the arrays of an npz without pickle."""
    with np.load(BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def facts_of(data: bytes) -> dict[str, Any]:
    """Return the facts that an npz carries."""
    facts: dict[str, Any] = json.loads(str(arrays_of(data)["facts"]))
    return facts
