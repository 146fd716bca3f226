"""The work process: does the job, and writes for its supervisor how it ended."""

import errno
import logging
import os
import signal
import sys
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType

import torch

from darkroom.model.checkpoint import CheckpointError
from darkroom.model.datasets import DatasetError
from darkroom.model.machine.device import find_device
from darkroom.model.machine.memory import is_out_of_memory
from darkroom.model.machine.threads import compute_with
from darkroom.model.training.distributed import FirstProcessError, launched_rank, process_group
from darkroom.model.training.trainer import TrainingDiverged, TrainingError
from darkroom.store.database import DatabaseBusy, DatabaseFull
from darkroom.store.job_repository import Failure, Lease, LeaseLost, get_job
from darkroom.store.places import ArtifactsAway, ArtifactsFull
from darkroom.store.tables import Job
from darkroom.telemetry.logs import LogSettings, set_up_logs
from darkroom.telemetry.tracing import TRACEPARENT, flush_spans, set_up_tracing, span
from darkroom.worker.attempt import Attempt
from darkroom.worker.job_kinds import KINDS
from darkroom.worker.outcome import Outcome, write_outcome, write_pid
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.transactions import MOST_GIVEN_UP, transact
from darkroom.worker.watchdog import end_process, end_with_lease

log = logging.getLogger(__name__)


class DeviceMissing(RuntimeError):
    """This worker does not have the device that the job needs."""


def work(job_id: int, attempt: int, folder: str) -> None:
    """Do one attempt at a job. Code 0 says that the outcome was written; any other code is a crash."""
    set_up_logs("work", LogSettings(log_format="json"), sys.stdout)  # for worker.work_output
    set_up_tracing("work")
    try:
        with span("work", {"darkroom.job_id": job_id, "darkroom.attempt": attempt}, parent=os.environ.get(TRACEPARENT)):
            _attempt(job_id, attempt, folder)
    finally:
        flush_spans()


def _attempt(job_id: int, attempt: int, folder: str) -> None:
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ask)
    first = launched_rank() in (None, 0)
    if first:
        write_pid(Path(folder))
    settings = WorkerSettings()
    if settings.worker_device == "cpu":
        os.nice(settings.niceness)
    database = settings.database("work", settings.work_pool())
    lease = Lease(job_id, attempt)
    end_with_lease(database, lease)
    compute_with()  # all threads for this one, one for each of the others
    try:
        job = transact(database, lambda session: get_job(session, job_id))
        with process_group(find_device(_device(job, settings), "DARKROOM_WORKER_DEVICE", tried=True)) as device:
            work = resolve_name(KINDS[job.kind].work)
            finished = work(Attempt(job, lease, database, device, lambda: asked, settings.cache_folder))
    except LeaseLost as lost:
        end_process(str(lost))
    except FirstProcessError:
        sys.exit(1)  # the first rank writes the failure
    except Exception as error:
        failure = _cause(error)
        if failure is None:
            raise
        log.error("%s", failure.detail)
        write_outcome(
            Path(folder), Outcome("crashed" if failure.kind in ("database", "storage") else "failed", failure)
        )
        return
    if first:
        write_outcome(Path(folder), Outcome("finished" if finished else "stopped"))


def _device(job: Job, settings: WorkerSettings) -> str:
    wanted = settings.worker_device if job.device == "auto" else job.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing(
            f"worker {settings.worker_name} is to use CUDA, and torch finds no CUDA device: repair its driver or its "
            "installation of torch, or set DARKROOM_WORKER_DEVICE=cpu there"
        )
    return wanted


def _cause(error: Exception) -> Failure | None:
    """The failure of an error that another attempt would meet again, or of the database; None for other errors."""
    if isinstance(error, DatabaseBusy):
        detail = f"the database gave up a statement of this job {MOST_GIVEN_UP} times; the last time it said: {error}"
        return Failure("database", detail)
    if isinstance(error, ArtifactsAway) and not isinstance(error, ArtifactsFull):
        return Failure("storage", f"the storage of artifacts was away for too long; the last time it said: {error}")
    full = _full_disk(error)
    if full is not None:
        return Failure("disk_full", f"{full}: free some space, then retry the job")
    if isinstance(error, DeviceMissing):
        return Failure("no_device", str(error))
    if isinstance(error, DatasetError):
        return Failure("dataset", f"{error}; register the data set again and submit the job with it")
    if isinstance(error, TrainingDiverged):
        return Failure("diverged", str(error))
    if isinstance(error, TrainingError):
        return Failure("training", str(error))
    if isinstance(error, CheckpointError):
        return Failure("checkpoint", str(error))
    if is_out_of_memory(error):
        return Failure(
            "out_of_memory",
            "the device has not enough memory: lower training.batch_size or model.unet.width, or use more devices. "
            f"({str(error).splitlines()[0][:300] if str(error) else type(error).__name__})",
        )
    return None


def _full_disk(error: BaseException | None) -> str | None:
    """The full disk that caused the error, in words; None for other errors."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "the worker's disk is full" + (f" ({error.filename})" if error.filename else "")
        if isinstance(error, ArtifactsFull):
            return f"the disk of the artifacts is full ({error})"
        if isinstance(error, DatabaseFull):
            return "the database's disk is full"
        error = error.__cause__
    return None
