"""The job kind `train` runs the training loop with the database as its record."""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy.orm import Session

from darkroom.model.checkpoint import CheckpointError
from darkroom.model.figure import Figure
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast
from darkroom.model.training.run import StartingPoint, StateStart, WeightsStart, train
from darkroom.model.training.run_record import Failing
from darkroom.model.words import several
from darkroom.progress import Lines
from darkroom.store.artifacts import ArtifactCorrupted, ArtifactMissing, Artifacts
from darkroom.store.checkpoint_repository import checkpoint_bytes
from darkroom.store.counters import count
from darkroom.store.database import Database
from darkroom.store.figure_repository import job_figures
from darkroom.store.job_forms import ContinueFrom, ForkFrom, TrainWork
from darkroom.store.job_repository import Lease, add_event, get_job, hold
from darkroom.store.model_repository import resolve
from darkroom.store.run_repository import (
    forget_beyond,
    kept_states,
    record_checkpoint,
    record_evaluations,
    record_frontier,
    record_samples,
    record_verdict,
    reference_statistics,
    store_reference_statistics,
)
from darkroom.store.tables import Purpose
from darkroom.worker.attempt import Attempt
from darkroom.worker.dataset_loading import registered_dataset
from darkroom.worker.reporter import Reporter
from darkroom.worker.transactions import transact

HELD_BYTES = 256 << 20
"""A checkpoint with more bytes is stored before training goes on. Smaller ones are stored meanwhile."""

log = logging.getLogger(__name__)


def train_job(attempt: Attempt) -> bool:
    """Train to the recipe's end, or until `should_stop`. Everything is stored when this returns.

    Returns True when the end was reached. Raises DatasetError, CheckpointError and TrainingError with a cause for the
    job's owner.
    """
    job, database, device = attempt.job, attempt.database, attempt.device
    work = TrainWork.model_validate(job.configuration)
    on_progress = Lines(log.info)  # into the job's log
    dataset = registered_dataset(database, job, attempt.cache, on_progress)
    images, classes = several(len(dataset), "image"), several(len(dataset.class_names), "class")
    log.info("%s of %s; training on %s", images, classes, device)
    record = JobRecord(database, job.id, attempt.lease, work, dataset.class_names)
    references = StoredReferences(database)
    start = _starting_point(database, work)
    try:
        result = train(
            work.recipe,
            dataset,
            record,
            device=device,
            start=start,
            references=references,
            on_measurement=on_progress,
            should_stop=attempt.should_stop,
        )
    finally:
        record.flush()  # store what was handed over, even when training failed after it
    return result.finished


def _starting_point(database: Database, work: TrainWork) -> StartingPoint | None:
    match work.start:
        case ContinueFrom(job_id=job_id, images_seen=images_seen):
            kept = transact(database, lambda session: kept_states(session, job_id, at=images_seen))
            if not kept:
                raise CheckpointError(f"the state of job {job_id} at {images_seen} images is no longer kept")
            state = transact(database, partial(_stored, digest=kept[0][1]))
            return StateStart(f"job {job_id} at {images_seen} images", state)
        case ForkFrom(model=model, digest=digest):
            weights = transact(database, lambda session: checkpoint_bytes(session, resolve(session, model, digest)))
            return WeightsStart(f"{model}@{digest}", weights)
        case None:
            return None


def _stored(session: Session, digest: str) -> bytes:
    return Artifacts(session).get(digest)


class JobRecord:
    """A `model.training.run_record.RunRecord` in the database. With several processes only the first one's is used."""

    def __init__(
        self, database: Database, job_id: int, lease: Lease, work: TrainWork, class_names: Sequence[str]
    ) -> None:
        self._database = database
        self._job_id = job_id
        self._work = work
        self._class_names = class_names
        self._last_good: int | None = None
        self._reporter = Reporter(database, lease)

    def states(self) -> Iterator[tuple[str, bytes]]:
        """The stored states, each checked against its digest. Damaged ones are passed over."""
        kept = transact(self._database, lambda session: kept_states(session, self._job_id))
        damaged: list[str] = []
        for images_seen, digest in kept:
            try:
                data = transact(self._database, partial(_stored, digest=digest))
            except (ArtifactCorrupted, ArtifactMissing) as error:
                damaged.append(str(error))
                log.warning("the state at %d images cannot be used: %s", images_seen, error)
                continue
            yield f"the state at {images_seen} images", data
        if kept and len(damaged) == len(kept):
            raise CheckpointError(f"no training state can be used ({'; '.join(damaged)}); submit a new job")

    def begin(self, images_seen: int) -> None:
        """Delete the curve points after the state from which training goes on."""
        self._last_good = images_seen or None
        log.info(
            "training goes on after %d images" if images_seen else "training begins", *[images_seen] * bool(images_seen)
        )
        self._reporter.put(lambda session, lease: forget_beyond(session, hold(session, lease), images_seen))

    def progress(self, point: CurvePoint) -> None:
        """Store a curve point."""
        self._reporter.curve_point(point)

    def spend(self, seconds: float) -> None:
        """Store the job's time."""
        self._reporter.spend(seconds)

    def spent(self) -> float:
        """The stored time."""
        return transact(self._database, lambda session: get_job(session, self._job_id).spent_seconds)

    def checkpoint(self, images_seen: int, weights: bytes, state: bytes) -> None:
        """Store weights and state in one transaction."""

        def write(session: Session, lease: Lease) -> None:
            began = time.monotonic()
            # Before `hold`: while the job's record is locked, its supervisor cannot renew the lease.
            weights_digest, state_digest = map(Artifacts(session).put, (weights, state))
            record_checkpoint(
                session,
                hold(session, lease),
                images_seen,
                weights=weights,
                state_digest=state_digest,
                weights_digest=weights_digest,
                configuration=self._work.recipe.model.model_dump(mode="json"),
                class_names=self._class_names,
                keep_last=self._work.keep_last,
            )
            count(session, "checkpoint_writes")
            count(session, "checkpoint_write_seconds", by=time.monotonic() - began)

        self._reporter.put(write)
        self._last_good = images_seen
        if len(weights) + len(state) > HELD_BYTES:
            self._reporter.flush()  # not to hold it in memory beside the next one

    def samples(self, images_seen: int, picture: bytes) -> None:
        """Store a grid of samples."""

        def write(session: Session, lease: Lease) -> None:
            digest = Artifacts(session).put(picture)  # before `hold`, as above
            record_samples(session, hold(session, lease), images_seen, digest)

        self._reporter.put(write)

    def verdict(self, images_seen: int, findings: Sequence[Finding], forecast: Forecast | None) -> None:
        """Store findings and forecast."""
        self._reporter.put(
            lambda session, lease: record_verdict(session, hold(session, lease), images_seen, findings, forecast)
        )

    def evaluation(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Store figures."""
        self._reporter.put(
            lambda session, lease: record_evaluations(session, hold(session, lease), images_seen, evaluations)
        )

    def evaluated(self, images_seen: int) -> bool:
        """True when figures are stored."""
        self._reporter.flush()
        return bool(self._figures("evaluation", images_seen))

    def frontier(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Store points of a frontier."""
        self._reporter.put(
            lambda session, lease: record_frontier(session, hold(session, lease), images_seen, evaluations)
        )

    def frontier_points(self, images_seen: int) -> Sequence[Figure]:
        """The stored points of a frontier."""
        self._reporter.flush()
        return self._figures("frontier", images_seen)

    def _figures(self, purpose: Purpose, images_seen: int) -> Sequence[Figure]:
        found = transact(self._database, lambda session: job_figures(session, purpose, self._job_id, at=images_seen))
        return [row.figure for _, _, row in found]

    def failed(self, images_seen: int, what: Failing, detail: str) -> None:
        """Store an event."""
        data = {"images_seen": images_seen, "detail": detail}
        self._reporter.put(lambda session, lease: add_event(session, hold(session, lease), f"{what}_failed", data))

    def last_good(self) -> str | None:
        """The checkpoint that was handed over last, in words."""
        return None if self._last_good is None else f"the checkpoint at {self._last_good} images"

    def flush(self) -> None:
        """Wait until everything is stored."""
        self._reporter.flush()


class StoredReferences:
    """A `model.metrics.references.ReferenceCache` in the database, for all workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> bytes | None:
        """The bytes stored under the key, or None when they are missing or damaged."""
        try:
            return transact(self._database, lambda session: reference_statistics(session, key))
        except (ArtifactCorrupted, ArtifactMissing) as error:
            log.warning("stored statistics cannot be used: %s", error)
            return None

    def put(self, key: str, data: bytes) -> None:
        """Store the bytes under the key."""
        transact(self._database, lambda session: store_reference_statistics(session, key, data))
