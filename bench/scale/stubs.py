"""Workers without training: `python -m bench.scale.stubs NAME COUNT`, a process of `bench.scale`.

Each is the real `worker.celery_app.Worker` without Celery. Its work process sleeps, and this process does the work's
part instead, with the real reporter and watchdog. So PostgreSQL sees what COUNT workers in the midst of trainings send.
It reads commands from standard input, and answers each with one line.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from sqlalchemy import Engine, event, select

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.database import Database
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import Lease
from darkroom.store.tables import Job
from darkroom.telemetry.loops import start_loop
from darkroom.worker.celery_app import Worker
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.training import JobRecord
from darkroom.worker.watchdog import end_with_lease

POINT_SECONDS = 1.0
CHECKPOINT_SECONDS = 300.0
WEIGHTS_BYTES, STATE_BYTES = 1 << 20, 3 << 20
LEASE_SECONDS = 3600.0
"""Longer than in production, because a lost lease would end this process. Nothing is sent more often for it."""
SLEEPS = ("sh", "-c", "exec sleep 100000")


class Stub:
    """A worker, and the work's part of its job."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._worker = Worker(settings, SLEEPS)
        start_loop("alive", self._worker.beat)

    def take_job(self) -> None:
        """Claim a job and supervise it, in a thread."""
        threading.Thread(target=self._worker.run_jobs, daemon=True).start()

    def train(self, job: Job, first_checkpoint_seconds: float) -> None:
        """Begin the work's part."""
        lease = Lease(job.id, job.attempt)
        database = self._settings.database("work", self._settings.work_pool())
        end_with_lease(database, lease)
        record = JobRecord(database, job.id, lease, TrainWork.model_validate(job.configuration), ["class"])
        record.begin(0)
        began = time.monotonic()
        due = began + first_checkpoint_seconds
        seen = 0

        def step() -> None:
            nonlocal due, seen
            seen += 100
            record.progress(CurvePoint(seen, 0.1, 1.0, 1e-4, 100.0, 1 << 30, 60.0))
            if time.monotonic() > due:
                due += CHECKPOINT_SECONDS
                record.checkpoint(seen, os.urandom(WEIGHTS_BYTES), os.urandom(STATE_BYTES))
            time.sleep(POINT_SECONDS)

        start_loop("training", step)


class _Sent:
    """Counts the statements of this process, without BEGIN and COMMIT."""

    def __init__(self) -> None:
        self.count = 0
        event.listen(Engine, "before_cursor_execute", self._note)

    def _note(self, *_: object) -> None:
        self.count += 1


def _claimed(database: Database, names: Sequence[str]) -> Sequence[Job]:
    with database.session() as session:
        return session.scalars(select(Job).where(Job.worker.in_([f"{name}:{os.getpid()}" for name in names]))).all()


def main(name: str, count: int) -> None:
    """Run the workers until standard input ends."""
    threading.stack_size(256 << 10)
    names = [f"{name}-{number}" for number in range(count)]
    own = {"lease_seconds": LEASE_SECONDS, "worker_device": "cpu", "measure_speed": False}
    stubs = {one: Stub(WorkerSettings(worker_name=one, **own)) for one in names}
    sent = _Sent()
    asking = WorkerSettings().database("bench", WorkerSettings().pool())
    for command in sys.stdin:
        match command.strip():
            case "claim":
                for stub in stubs.values():
                    stub.take_job()
                while len(jobs := _claimed(asking, names)) < count:
                    time.sleep(0.5)
                for number, job in enumerate(jobs):
                    stubs[str(job.worker).rpartition(":")[0]].train(job, CHECKPOINT_SECONDS * number / count)
        print(sent.count, flush=True)
    subprocess.run(["pkill", "--signal", "KILL", "--parent", str(os.getpid())], check=False)
    os.kill(os.getpid(), signal.SIGKILL)  # without handing the jobs back


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
