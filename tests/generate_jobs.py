"""Generate jobs on a real database, carried out in the tests' own process as a worker does."""

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
"""Twelve images of the tiny model."""


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
    """At a job, on the CPU."""
    return Attempt(job, lease, database, CPU, should_stop, Path("unused"))


def carry_out(database: Database, job: Job, lease: Lease) -> bool:
    """Do a sample or assemble job to its end; returns whether it was finished."""
    finished: bool = resolve_name(KINDS[job.kind].work)(attempt(job, lease, database))
    if finished:
        with database.session() as session:
            succeed(session, lease)
    return finished


def hand_back(database: Database, lease: Lease) -> None:
    """End an attempt that was stopped: cancelled when that was asked for, else queued again."""
    with database.session() as session:
        stop(session, lease)


def finish(database: Database, generate_job_id: int) -> bytes:
    """Carry out all jobs there are, with the reconciler between them, and return the result's bytes."""
    while result_digest(database, generate_job_id) is None:
        with database.session() as session:
            assemble_what_is_ready(session)
        carry_out(database, *claim(database))
    return result(database, generate_job_id)


def let_lapse(database: Database) -> None:
    """All claims lapse, and the reconciler queues what they were for; nobody has to wait for the next attempt."""
    with database.session() as session:
        session.execute(
            update(Job).where(Job.lease_expires_at.is_not(None)).values(lease_expires_at=func.now() - seconds(1.0))
        )
    with database.session() as session:
        requeue_lapsed(session)
        session.flush()
        session.execute(update(Job).values(not_before=func.now()))


def retry(database: Database, generate_job_id: int) -> None:
    """As POST .../retry does."""
    with database.session() as session:
        retry_generate_job(session, generate_job_id)


def rebuilt(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """The npz that these members make with other facts."""
    images = arrays["images"]
    count, height, width, channels = images.shape
    file = BytesIO()
    described, shape = ArchiveFacts(facts, {}, {}), (height, width, channels)
    with image_archive("npz", file, described, images=count, image_shape=shape) as archive:
        archive.add(images, arrays["labels"], arrays["indices"])
        archive.finish()
    return file.getvalue()


def result_digest(database: Database, generate_job_id: int) -> str | None:
    """Of the finished archive."""
    with database.session() as session:
        return get_generate_job(session, generate_job_id)[0].result_digest


def result(database: Database, generate_job_id: int) -> bytes:
    """The finished archive."""
    digest = result_digest(database, generate_job_id)
    assert digest is not None
    with database.session() as session:
        return Artifacts(session).get(digest)


def status(database: Database, generate_job_id: int) -> str:
    """As the API tells it."""
    with database.session() as session:
        row, _ = get_generate_job(session, generate_job_id)
        return progress_of(session, [row])[row.id].status


def images_done(database: Database, generate_job_id: int) -> int:
    """As the API tells it."""
    with database.session() as session:
        row, _ = get_generate_job(session, generate_job_id)
        return progress_of(session, [row])[row.id].images_done


def parts(database: Database) -> list[GeneratePart]:
    """All parts there are, in order."""
    with database.session() as session:
        return list(
            session.scalars(select(GeneratePart).order_by(GeneratePart.generate_job_id, GeneratePart.first_row))
        )


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """The members of an npz, read without pickle."""
    with np.load(BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def facts_of(data: bytes) -> dict[str, Any]:
    """What an npz says of itself."""
    facts: dict[str, Any] = json.loads(str(arrays_of(data)["facts"]))
    return facts
