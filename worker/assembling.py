"""The assemble job joins the parts of a generate job into one archive, with one part at a time in memory."""

import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
from safetensors.numpy import load
from sqlalchemy.orm import Session

from darkroom.model.config import ModelConfig
from darkroom.model.images.archive import ArchiveFacts, ImageArchive, image_archive
from darkroom.model.images.pictures import Pixels
from darkroom.store.artifacts import ArtifactCorrupted, ArtifactMissing, Artifacts
from darkroom.store.database import Database
from darkroom.store.generate_repository import get_generate_job, provenance_of
from darkroom.store.job_forms import GenerateRun
from darkroom.store.job_repository import Lease
from darkroom.store.part_repository import parts_within, record_result, redraw
from darkroom.store.tables import Checkpoint, GenerateJob, GeneratePart, Job
from darkroom.worker.attempt import Attempt
from darkroom.worker.transactions import transact

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Assembly:
    """The parts to join. done: an earlier attempt has stored the result. image_shape: (H, W, C)."""

    done: bool
    run: GenerateRun
    image_shape: tuple[int, int, int]
    facts: ArchiveFacts
    parts: Sequence[GeneratePart]


def assemble(attempt: Attempt) -> bool:
    """Join a generate job's parts and store the archive as its result; returns False when `should_stop` ended it.

    The same images give the same bytes. Where parts are damaged, queue their shards again, end this job as failed and
    return False; the claim is then over. `store.generate_repository.queue_assembly` queues the job again once they are
    drawn. Raises LeaseLost.
    """
    job, database, lease = attempt.job, attempt.database, attempt.lease
    assembly = transact(database, lambda session: _read(session, job))
    if assembly.done:
        return True
    if sum(part.rows for part in assembly.parts) != assembly.run.total_images:
        raise RuntimeError(f"the parts of generate job {job.generate_job_id} are not all there")
    damaged: dict[int, str] = {}
    with TemporaryFile(prefix="darkroom-") as file:
        with _archive(assembly, file) as archive:
            for part in assembly.parts:
                if attempt.should_stop():
                    return False
                try:
                    pixels = _pixels(database, part)
                except (ArtifactCorrupted, ArtifactMissing) as error:
                    damaged[part.first_row] = str(error)
                    continue
                if not damaged:  # otherwise read on only to find every damaged part
                    _add(archive, assembly.run, part, pixels)
            if damaged:
                _redraw(database, lease, damaged)
                return False
            archive.finish()
        digest = transact(database, lambda session: record_result(session, lease, file))
    log.info("generate job %s: %d images as %s", job.generate_job_id, assembly.run.total_images, digest)
    return True


def _read(session: Session, job: Job) -> _Assembly:
    assert job.generate_job_id is not None
    generate_job, checkpoint = get_generate_job(session, job.generate_job_id)
    run = GenerateRun.model_validate(generate_job.configuration)
    parts = parts_within(session, generate_job.id, 0, run.total_images)
    model = ModelConfig.model_validate(checkpoint.configuration)
    return _Assembly(
        done=generate_job.result_digest is not None,
        run=run,
        image_shape=(model.image_size, model.image_size, model.image_channels),
        facts=_facts(generate_job, checkpoint, {part.drawn_on for part in parts}),
        parts=parts,
    )


def _archive(assembly: _Assembly, file: BinaryIO) -> ImageArchive:
    run = assembly.run
    return image_archive(run.format, file, assembly.facts, images=run.total_images, image_shape=assembly.image_shape)


def _facts(generate_job: GenerateJob, checkpoint: Checkpoint, drawn_on: Set[str | None]) -> ArchiveFacts:
    """Return the archive's facts. Workers of several kinds may have drawn it: it names each, and a CPU only then."""
    devices = " / ".join(sorted(one or "cpu" for one in drawn_on))
    here = {} if drawn_on <= {None} else {"drawn_on": devices}
    of_the_whole = {"n", "classes", "class_indices"}
    told = provenance_of(generate_job, checkpoint)
    return ArchiveFacts(
        shared=told.model_dump(exclude=of_the_whole | {"id", "choice"}) | here,  # so equal jobs give equal bytes
        request=told.model_dump(include=of_the_whole),
        class_names=dict(enumerate(checkpoint.class_names)),
    )


def _pixels(database: Database, part: GeneratePart) -> Pixels:
    pixels: Pixels = load(transact(database, lambda session: Artifacts(session).get(part.digest)))["pixels"]
    return pixels


def _add(archive: ImageArchive, run: GenerateRun, part: GeneratePart, pixels: Pixels) -> None:
    number, index = np.divmod(np.arange(part.first_row, part.first_row + part.rows), run.images_per_class)
    archive.add(pixels, np.array(run.class_indices)[number], index)


def _redraw(database: Database, lease: Lease, damaged: dict[int, str]) -> None:
    detail = f"{len(damaged)} parts are damaged and will be drawn again: {'; '.join(damaged.values())}"
    log.warning("%s", detail)
    transact(database, lambda session: redraw(session, lease, list(damaged), detail))
