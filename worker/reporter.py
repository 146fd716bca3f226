"""Writes a work process's results to the database from a thread, in order. It waits while the database is away.

Training goes on meanwhile. When the claim is over, the whole process ends at once, because another attempt may run.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy.orm import Session

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.database import Database
from darkroom.store.job_repository import Lease, LeaseLost, hold
from darkroom.store.run_repository import record_curve_points
from darkroom.worker.transactions import transact
from darkroom.worker.watchdog import end_process

HELD_WRITES = 4
"""At most so many checkpoints and pictures wait for the database; then training waits, too."""

PROGRESS_SECONDS = 2.0
"""The time between two writes of curve points. A fast training makes many points, and each write is a transaction."""

Write = Callable[[Session, Lease], object]
"""A transaction. It does what takes long first, and then locks the job's record (`store.job_repository.hold`)."""


class Reporter:
    """Writes for one attempt."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease
        self._changed = threading.Condition()
        self._writes: deque[Write] = deque()
        self._metrics: list[CurvePoint] = []
        self._seconds: float | None = None
        self._busy = False
        self._flushes = 0
        self._progress_due = time.monotonic()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def curve_point(self, point: CurvePoint) -> None:
        """Queue a curve point to be stored."""
        with self._changed:
            self._metrics.append(point)
            self._changed.notify_all()

    def spend(self, seconds: float) -> None:
        """Queue the time that the run has spent. Only the newest one is stored."""
        with self._changed:
            self._seconds = seconds
            self._changed.notify_all()

    def put(self, write: Write) -> None:
        """Queue a write behind the others; raises the error of an earlier one."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._writes) < HELD_WRITES or self._fault is not None)
            self._raise_fault()
            self._writes.append(write)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is stored; raises the error of a write."""
        with self._changed:
            self._flushes += 1
            self._changed.notify_all()
            self._changed.wait_for(self._is_idle)
            self._flushes -= 1
            self._raise_fault()

    def _is_idle(self) -> bool:
        return self._fault is not None or not (self._has_work() or self._busy)

    def _has_work(self) -> bool:
        return bool(self._writes or self._metrics or self._seconds is not None)

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                while not (self._writes or self._flushes) and (left := self._progress_due - time.monotonic()) > 0.0:
                    self._changed.wait(left)
                points, self._metrics = self._metrics, []
                seconds, self._seconds = self._seconds, None
                write = self._writes[0] if self._writes else None
                self._busy = True
            fault: Exception | None = None
            try:
                self._store(points, seconds, write)
                self._progress_due = time.monotonic() + PROGRESS_SECONDS
            except LeaseLost as lost:
                end_process(str(lost))
            except Exception as error:  # a full disk or a damaged record: the main thread reports it
                fault = error
            with self._changed:
                if write is not None:
                    self._writes.popleft()
                self._busy = False
                self._fault = fault
                self._changed.notify_all()
            if fault is not None:
                return

    def _store(self, points: list[CurvePoint], seconds: float | None, write: Write | None) -> None:
        def progress(session: Session) -> None:
            job = hold(session, self._lease)
            record_curve_points(session, job, points)
            if seconds is not None:
                job.spent_seconds = seconds

        if points or seconds is not None:
            transact(self._database, progress)
        if write is not None:
            transact(self._database, lambda session: write(session, self._lease))
