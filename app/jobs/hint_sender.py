"""Sends hints about new jobs from a thread of its own, so that no request waits for Redis."""

import logging
import threading

from darkroom.store.database import DATABASE_ERRORS, Database
from darkroom.store.hints import Hints
from darkroom.store.worker_repository import FRESH_SECONDS, count_idle_workers
from darkroom.telemetry.loops import start_loop

log = logging.getLogger(__name__)


class HintSender:
    """A thread that wakes idle workers. Busy workers need no hint: they look for another job when theirs ends."""

    def __init__(self, hints: Hints, database: Database) -> None:
        self._hints = hints
        self._database = database
        self._due = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Call this once."""
        self._thread = start_loop("hints", self._send_when_due, lambda: self._ended and not self._due.is_set())

    def stop(self, seconds: float) -> None:
        """Send the hints that are due, then end; wait at most `seconds` for that."""
        self._ended = True
        self._due.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def send_soon(self) -> None:
        """Send hints because jobs were queued. Call it after the commit; it returns at once."""
        self._due.set()

    def _send_when_due(self) -> None:
        """When hints are due, send as many as there are idle workers, minus the hints that are still unread.

        No job is missed, because the count follows the commit. A worker that is busy at the count looks for jobs later,
        and so does the reader of an unread hint.
        """
        self._due.wait()
        self._due.clear()
        try:
            with self._database.reading() as session:
                idle = count_idle_workers(session, FRESH_SECONDS)
            self._hints.send_up_to(idle)
        except DATABASE_ERRORS as error:
            log.warning("no hint was sent, and idle workers find the jobs a little later: %s", error)
