"""Workers without training: `python -m bench.scale.stubs NAME COUNT SLOWNESS`, a process of `bench.scale`.

Each is the real `worker.celery_app.Worker` without Celery. Its work process sleeps, and this process does the work's
part instead, with the real reporter and watchdog. So PostgreSQL sees what COUNT workers in the midst of trainings send.
All waits are SLOWNESS times as long as in production. It reads commands from standard input, and
answers each with one line.
"""

import os
import signal
import sys
import threading
import time
from typing import Any

from sqlalchemy import Engine, event, select
from sqlalchemy.util import LRUCache

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.database import Database, Pool
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import Lease
from darkroom.store.tables import Job
from darkroom.telemetry.loops import start_loop
from darkroom.worker import reporter, supervisor, watchdog
from darkroom.worker.celery_app import Worker
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.training import JobRecord
from darkroom.worker.transactions import transact

POINT_SECONDS = 1.0
CHECKPOINT_SECONDS = 300.0
WEIGHTS_BYTES, STATE_BYTES = 1 << 20, 3 << 20
LEASE_SECONDS = 3600.0
"""Longer than in production, because a lost lease would end this process. Nothing is sent more often for it."""
_WAITS = ((reporter, "PROGRESS_SECONDS"), (watchdog, "LONGEST_SLEEP_SECONDS"), (supervisor, "TICK_SECONDS"))
SLEEPS = ("sh", "-c", "exec tail --pid=$0 -f /dev/null")
"""Ends with its supervisor, whose process is the first argument."""


class _Settings(WorkerSettings):
    """A worker's settings. All workers of this process share the SQL that SQLAlchemy compiles, to save their time."""

    def database(self, name: str, pool: Pool, artifacts_url: str | None = None) -> Database:
        """As for a worker."""
        made = super().database(name, pool, artifacts_url)
        for engine in (made.engine, made._reads):
            engine.update_execution_options(compiled_cache=_COMPILED)
        return made


_COMPILED: LRUCache[Any, Any] = LRUCache(500)


class Stub:
    """A worker, and the work's part of its job."""

    def __init__(self, settings: WorkerSettings, slowness: float) -> None:
        self._settings = settings
        self._slowness = slowness
        self._worker = Worker(settings, SLEEPS)
        start_loop("alive", self._worker.beat)

    def take_job(self) -> None:
        """Claim a job and supervise it, in a thread."""

        def look() -> None:
            self._worker.run_jobs()
            time.sleep(1.0)  # there was no connection

        start_loop("look", look)

    def train(self, job: Job, first_checkpoint_seconds: float) -> None:
        """Begin the work's part."""
        lease = Lease(job.id, job.attempt)
        database = self._settings.database("work", self._settings.work_pool())
        watchdog.end_with_lease(database, lease)
        record = JobRecord(database, job.id, lease, TrainWork.model_validate(job.configuration), ["class"])
        record.begin(0)
        began = time.monotonic()
        due = began + self._slowness * first_checkpoint_seconds
        seen = 0

        def step() -> None:
            nonlocal due, seen
            seen += 100
            record.progress(CurvePoint(seen, 0.1, 1.0, 1e-4, 100.0, 1 << 30, 60.0))
            if time.monotonic() > due:
                due += self._slowness * CHECKPOINT_SECONDS
                record.checkpoint(seen, os.urandom(WEIGHTS_BYTES), os.urandom(STATE_BYTES))
            time.sleep(self._slowness * POINT_SECONDS)

        start_loop("training", step)


class _Sent:
    """Counts the statements of this process, without BEGIN and COMMIT."""

    def __init__(self) -> None:
        self.count = 0
        event.listen(Engine, "before_cursor_execute", self._note)

    def _note(self, *_: object) -> None:
        self.count += 1


def _claimed(database: Database, claimant: str) -> Job | None:
    mine = select(Job).where(Job.lease_expires_at.is_not(None), Job.worker == claimant)
    return transact(database, lambda session: session.scalars(mine).one_or_none())


def main(name: str, count: int, slowness: float) -> None:
    """Run the workers until standard input ends."""
    threading.stack_size(256 << 10)
    own: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "worker_device": "cpu", "measure_speed": False}
    for time_setting in ("beat_seconds", "poll_seconds"):
        own[time_setting] = slowness * WorkerSettings.model_fields[time_setting].default
    for module, constant in _WAITS:
        setattr(module, constant, slowness * getattr(module, constant))
    stubs = []
    sent = _Sent()
    asking = WorkerSettings().database("bench", WorkerSettings().pool())
    for command in sys.stdin:
        match command.strip():
            case "claim":
                for number in range(count):  # one after the other, because they share few cores
                    own["worker_name"] = f"{name}-{number}"
                    stubs.append(Stub(_Settings(**own), slowness))
                    stubs[-1].take_job()
                    while (job := _claimed(asking, f"{own['worker_name']}:{os.getpid()}")) is None:
                        time.sleep(0.05)
                    stubs[-1].train(job, CHECKPOINT_SECONDS * number / count)
        print(sent.count, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)  # without handing the jobs back


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
