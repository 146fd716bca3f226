"""Workers without training: `python -m bench.scale.stubs NAME COUNT SLOWNESS`, a process of `bench.scale`.

Each stub claims a job, and then sends what a worker and its work process send, with the same functions of `store/` in
the same transactions, as often as these. A few threads do it for all. All waits are SLOWNESS times as long as in
production. The process reads commands from standard input, and answers each with one line.
"""

import heapq
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from sqlalchemy import Engine, event

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.artifacts import Artifacts
from darkroom.store.counters import count
from darkroom.store.database import Database, Pool
from darkroom.store.job_repository import (
    Claimant,
    Lease,
    cancel_requested,
    claim_job,
    hold,
    is_due_to_another_key,
    job_waits,
    lease_seconds_left,
    renew,
)
from darkroom.store.run_repository import record_checkpoint, record_curve_points
from darkroom.store.worker_repository import see_worker
from darkroom.worker.reporter import PROGRESS_SECONDS
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.supervisor import BEATS_OF_PATIENCE
from darkroom.worker.watchdog import LONGEST_SLEEP_SECONDS

THREADS = 16
CHECKPOINT_SECONDS = 300.0
WEIGHTS_BYTES, STATE_BYTES = 1 << 20, 3 << 20
LEASE_SECONDS = 3600.0
"""Longer than in production, so that no late stub loses its job. Nothing is sent more often for it."""


class Stub:
    """A worker with a job, and the work process of the job."""

    def __init__(self, settings: WorkerSettings, database: Database, name: str) -> None:
        self._settings = settings
        self._database = database
        self._name = name
        self._seen = 0
        claimant = self._claimant = Claimant(f"{name}:{os.getpid()}", "cpu")
        with database.reading() as session:
            job_waits(session, claimant)
        with database.session() as session:
            job = claim_job(session, claimant, LEASE_SECONDS)
            assert job is not None
        self._lease = Lease(job.id, job.attempt)

    def acts(self) -> dict[Callable[[], None], float]:
        """Return what it does, each with the seconds between two times."""
        settings = self._settings
        return {
            self._beat: settings.beat_seconds,
            self._look: settings.poll_seconds,
            self._renew: settings.beat_seconds,
            self._watch: LONGEST_SLEEP_SECONDS,
            self._progress: PROGRESS_SECONDS,
            self._checkpoint: CHECKPOINT_SECONDS,
        }

    def _beat(self) -> None:
        with self._database.session() as session:
            see_worker(session, self._name, "cpu", 1, None, None, {})

    def _look(self) -> None:
        with self._database.reading() as session:
            cancel_requested(session, self._lease)

    def _renew(self) -> None:
        with self._database.session() as session:
            renew(session, self._lease, LEASE_SECONDS)
        patience = BEATS_OF_PATIENCE * self._settings.beat_seconds
        with self._database.reading() as session:
            is_due_to_another_key(session, self._lease, self._claimant, patience)

    def _watch(self) -> None:
        with self._database.reading() as session:
            lease_seconds_left(session, self._lease)

    def _progress(self) -> None:
        self._seen += 200
        with self._database.session() as session:
            points = [CurvePoint(self._seen - back, 0.1, 1.0, 1e-4, 100.0, 1 << 30, 60.0) for back in (100, 0)]
            record_curve_points(session, hold(session, self._lease), points)

    def _checkpoint(self) -> None:
        with self._database.session() as session:
            weights = os.urandom(WEIGHTS_BYTES)
            digest, state = (Artifacts(session).put(data) for data in (weights, os.urandom(STATE_BYTES)))
            kept = {"configuration": {}, "class_names": ["class"], "keep_last": 3}
            stored = {"weights": weights, "state_digest": state, "weights_digest": digest}
            record_checkpoint(session, hold(session, self._lease), self._seen, **stored, **kept)  # type: ignore[arg-type]
            count(session, "checkpoint_writes")
            count(session, "checkpoint_write_seconds", by=1.0)


_Due = tuple[float, int, float, Callable[[], None]]
"""Time, number, seconds between two times, and the act."""


@dataclass
class Plan:
    """The acts of all stubs of a process, and their times. One thread at a time waits for the next act."""

    slowness: float
    _due: list[_Due] = field(default_factory=list)
    _coming: SimpleQueue[_Due] = field(default_factory=SimpleQueue)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, act: Callable[[], None], seconds: float) -> None:
        """Do an act again and again, first at a random time."""
        every = self.slowness * seconds
        heapq.heappush(self._due, (time.monotonic() + random.uniform(0.0, every), len(self._due), every, act))

    def work(self) -> None:
        """Do what is due, for ever."""
        while True:
            with self._turn:
                at, number, every, act = self._next()
            act()
            self._coming.put((max(at + every, time.monotonic()), number, every, act))

    def _next(self) -> _Due:
        """Wait for the next act, also for one that another thread makes ready meanwhile."""
        while True:
            wait = self._due[0][0] - time.monotonic() if self._due else None
            if wait is not None and wait <= 0.0:
                return heapq.heappop(self._due)
            with suppress(Empty):
                heapq.heappush(self._due, self._coming.get(timeout=wait))


class _Sent:
    """Counts the statements of this process, without BEGIN and COMMIT."""

    def __init__(self) -> None:
        self.count = 0
        event.listen(Engine, "before_cursor_execute", self._note)

    def _note(self, *_: object) -> None:
        self.count += 1


def main(name: str, workers: int, slowness: float) -> None:
    """Run the workers until standard input ends."""
    settings, sent, plan = WorkerSettings(), _Sent(), Plan(slowness)
    database = settings.database("bench", Pool(THREADS, 0, ping=False))
    for command in sys.stdin:
        if command.strip() == "claim":
            for number in range(workers):
                for act, seconds in Stub(settings, database, f"{name}-{number}").acts().items():
                    plan.add(act, seconds)
            for _ in range(THREADS):
                threading.Thread(target=plan.work, daemon=True).start()
        print(sent.count, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
