"""The work process's way to the database: a thread that writes in order, fenced, and waits while the database is away.

Training goes on meanwhile. When the claim is over the whole process ends at once: another attempt may have begun.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from store.database import Database
from store.job_repository import Lease, LeaseLost, hold
from store.run_repository import MetricLine, record_metrics
from store.tables import Job

LEASE_LOST = 75
"""Exit code of a process whose claim is over."""

RETRY_SECONDS = 0.5
HELD_WRITES = 4
"""Checkpoints and pictures that wait for the database; with more, training waits too."""

Write = Callable[[Session, Job], None]

log = logging.getLogger(__name__)


class Reporter:
    """Writes for one attempt. give_up_seconds: how long the database may be away; then the claim cannot stand."""

    def __init__(self, database: Database, lease: Lease, give_up_seconds: float) -> None:
        self._database = database
        self._lease = lease
        self._give_up_seconds = give_up_seconds
        self._changed = threading.Condition()
        self._writes: deque[Write] = deque()
        self._metrics: list[MetricLine] = []
        self._busy = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def metrics(self, line: MetricLine) -> None:
        """Store a line some time soon."""
        with self._changed:
            self._metrics.append(line)
            self._changed.notify_all()

    def put(self, write: Write) -> None:
        """Do a write after those before it; raises what an earlier one has raised."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._writes) < HELD_WRITES or self._fault is not None)
            self._raise_fault()
            self._writes.append(write)
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything is stored; raises what a write has raised."""
        with self._changed:
            self._changed.wait_for(self._is_idle)
            self._raise_fault()

    def _is_idle(self) -> bool:
        return self._fault is not None or not (self._writes or self._metrics or self._busy)

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._writes or self._metrics))
                lines, self._metrics = self._metrics, []
                write = self._writes[0] if self._writes else None
                self._busy = True
            fault: Exception | None = None
            try:
                self._store(lines, write)
            except LeaseLost as lost:
                log.warning("%s; this process ends", lost)
                os._exit(LEASE_LOST)
            except Exception as error:  # a full disk, a damaged row: for the main thread to report
                fault = error
            with self._changed:
                if write is not None:
                    self._writes.popleft()
                self._busy = False
                self._fault = fault
                self._changed.notify_all()
            if fault is not None:
                return

    def _store(self, lines: list[MetricLine], write: Write | None) -> None:
        def action(session: Session, job: Job) -> None:
            record_metrics(session, job, lines)
            if write is not None:
                write(session, job)

        fenced(self._database, self._lease, action, give_up_seconds=self._give_up_seconds)


def fenced(database: Database, lease: Lease, action: Write, *, give_up_seconds: float) -> None:
    """Run `action` in a transaction that holds the claim; waits while the database is away.

    Raises LeaseLost when the claim is over, or the database was away for `give_up_seconds`, and whatever else goes
    wrong.
    """
    began = time.monotonic()
    while True:
        try:
            with database.session() as session:
                action(session, hold(session, lease))
            return
        except DBAPIError as error:
            if not is_away(error):
                raise
            if time.monotonic() - began > give_up_seconds:
                raise LeaseLost(f"the database was away for {give_up_seconds:g} s") from error
            log.warning("the database is away, trying again: %s", str(error).splitlines()[0])
            time.sleep(RETRY_SECONDS)


def is_away(error: DBAPIError) -> bool:
    """Whether the database did not answer, so that the same may succeed later. A full disk is not that."""
    if isinstance(error.orig, psycopg.errors.DiskFull):
        return False
    return error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError)
