"""The job kind `sample` draws one shard of a generate job, and stores each part as soon as it is finished."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from safetensors.numpy import save
from sqlalchemy.orm import Session

from darkroom.model.checkpoint import CheckpointError, decode_checkpoint
from darkroom.model.diffusion.denoiser import Denoiser, SamplingStopped
from darkroom.model.diffusion.network import drawn_on
from darkroom.model.images.pictures import Pixels
from darkroom.model.images.pixels import to_pixels
from darkroom.model.machine.memory import is_out_of_memory
from darkroom.model.sampling.draw import RowPlan, plan_row, sample
from darkroom.store.artifacts import ArtifactCorrupted, ArtifactMissing
from darkroom.store.checkpoint_repository import checkpoint_bytes
from darkroom.store.database import Database
from darkroom.store.generate_repository import get_generate_job
from darkroom.store.job_forms import GenerateRun, SampleWork
from darkroom.store.part_repository import parts_within, record_part
from darkroom.store.tables import GeneratePart, Job
from darkroom.worker.attempt import Attempt
from darkroom.worker.transactions import transact

PART_IMAGES = 256
"""Images of a part. A killed process loses at most one part, and progress counts parts."""

PART_BYTES = 1 << 25
"""The largest part in bytes of pixels: a part of large images has fewer of them."""

BATCH_ROWS = {"cpu": 64, "cuda": 512}
"""Network rows of a batch, enough to keep a device busy. With guidance an image takes two."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shard:
    """The images of a shard. parts: those that an earlier attempt has stored."""

    work: SampleWork
    run: GenerateRun
    weights: bytes
    version: str
    parts: Sequence[GeneratePart]


def draw_shard(attempt: Attempt) -> bool:
    """Draw and store the rows that are missing. Returns True when all are stored, False when `should_stop` ended it.

    A stop takes effect before the next step of the sampler and loses the part in progress. The images are those that
    POST /generate draws for the same request, up to rounding that depends on device and batch. Raises CheckpointError
    when the model cannot draw, LeaseLost when the claim is over.
    """
    job, database, lease = attempt.job, attempt.database, attempt.lease
    shard = _read(job, database)
    denoiser = decode_checkpoint(shard.weights, source=shard.version).denoiser(attempt.device)
    denoiser = denoiser.interruptible(attempt.should_stop)
    artist, device = _Artist(denoiser, shard), drawn_on(attempt.device, "draw")
    for first_row, rows in _missing(shard.work, shard.parts, _part_images(denoiser)):
        try:
            pixels = artist.draw(first_row, rows)
        except SamplingStopped:
            return False
        data = encode_part(pixels, job.generate_job_id, first_row)
        record = partial(record_part, lease=lease, first_row=first_row, rows=rows, data=data, drawn_on=device)
        transact(database, record)
        log.info("images %d to %d are stored", first_row, first_row + rows - 1)
    return True


def encode_part(pixels: Pixels, generate_job_id: int | None, first_row: int) -> bytes:
    """Encode a part as safetensors: `pixels` (N, H, W, C) uint8. Its place in the header makes its digest unique."""
    # one entry only: the library writes several in any order, and equal parts must have equal bytes
    return save({"pixels": pixels}, metadata={"place": f"generate job {generate_job_id}, row {first_row}"})


class _Artist:
    """Draws rows of a shard's request, in batches that fit the device."""

    def __init__(self, denoiser: Denoiser, shard: _Shard) -> None:
        self._denoiser = denoiser
        self._run = shard.run
        self._version = shard.version
        plan = self._plan(0)
        self._batch_images = max(1, BATCH_ROWS[denoiser.device.type] // max(map(plan.network_rows, range(plan.steps))))

    def draw(self, first_row: int, rows: int) -> Pixels:
        """Draw images (rows, H, W, C). When memory runs out, halve the batch from then on."""
        plans = [self._plan(row) for row in range(first_row, first_row + rows)]
        while True:
            try:
                images = sample(self._denoiser, plans, batch_rows=self._batch_images)
            except Exception as error:
                if not is_out_of_memory(error) or self._batch_images == 1:
                    raise
                self._batch_images //= 2
                log.warning("out of memory; drawing %d images at a time now", self._batch_images)
                continue
            if not bool(images.isfinite().all()):
                raise CheckpointError(f"{self._version} gave values that are not finite")
            return to_pixels(images)

    def _plan(self, row: int) -> RowPlan:
        run = self._run
        number, index = divmod(row, run.images_per_class)
        return plan_row(self._denoiser, run.sampling, label=run.class_indices[number], seed=run.seed, index=index)


def _part_images(denoiser: Denoiser) -> int:
    return max(1, min(PART_IMAGES, PART_BYTES // math.prod(denoiser.image_shape)))


def _missing(work: SampleWork, parts: Sequence[GeneratePart], part_images: int) -> Iterator[tuple[int, int]]:
    """The parts that are missing, in order, as (first row, rows). A lost part keeps its limits."""
    begin, end = work.first_row, work.first_row + work.rows
    for until, behind in [*((part.first_row, part.first_row + part.rows) for part in parts), (end, end)]:
        for first_row in range(begin, until, part_images):
            yield first_row, min(part_images, until - first_row)
        begin = behind


def _read(job: Job, database: Database) -> _Shard:
    work = SampleWork.model_validate(job.configuration)
    number = job.generate_job_id
    assert number is not None

    def read(session: Session) -> _Shard:
        generate_job, checkpoint = get_generate_job(session, number)
        version = f"{checkpoint.model.name}@{checkpoint.digest}"
        try:
            weights = checkpoint_bytes(session, checkpoint)
        except (ArtifactCorrupted, ArtifactMissing) as error:
            raise CheckpointError(f"the weights of {version} cannot be read: {error}") from error
        parts = parts_within(session, number, work.first_row, work.rows)
        return _Shard(work, GenerateRun.model_validate(generate_job.configuration), weights, version, parts)

    return transact(database, read)
