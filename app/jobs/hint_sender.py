"""Hints for jobs that were just queued, sent beside the requests: a broker that is away holds up nobody."""

import logging
import threading

from darkroom.store.database import Database
from darkroom.store.hints import Hints
from darkroom.store.worker_repository import FRESH_SECONDS, count_idle_workers

log = logging.getLogger(__name__)


class HintSender:
    """A thread that wakes idle workers. Busy workers need no hint: they look for the next job when theirs has ended."""

    def __init__(self, hints: Hints, database: Database) -> None:
        self._hints = hints
        self._database = database
        self._due = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        """To be called once."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what is due and end, within `seconds`."""
        self._ended = True
        self._due.set()
        self._thread.join(seconds)

    def soon(self) -> None:
        """There is work, whose transaction has committed; returns at once."""
        self._due.set()

    def _run(self) -> None:
        """A hint for each idle worker, less those that wait already.

        Counted after the commit, so that no job is forgotten: a worker that still counts as busy claims later than
        that, and a hint that waits is taken later than that.
        """
        last = False
        while not last:
            self._due.wait()
            self._due.clear()
            last = self._ended
            try:
                with self._database.session() as session:
                    idle = count_idle_workers(session, FRESH_SECONDS)
                self._hints.send_up_to(idle)
            except Exception:
                log.warning("no hint was sent; idle workers look for jobs by themselves, too", exc_info=True)
