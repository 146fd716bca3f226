"""Hints for jobs that were just queued, sent beside the requests: a broker that is away holds up nobody."""

import contextlib
import logging
import threading
from collections.abc import Iterable
from queue import Empty, Full, Queue

from store.database import Database
from store.hints import Hints
from store.job_repository import mark_hinted

WAITING_LIMIT = 10_000

log = logging.getLogger(__name__)


class HintSender:
    """A thread that sends a hint a job and notes it. What it drops, the reconciler sends."""

    def __init__(self, hints: Hints, database: Database) -> None:
        self._hints = hints
        self._database = database
        self._waiting: Queue[int | None] = Queue(WAITING_LIMIT)
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        """To be called once."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what waits and end, within `seconds`; what is left is dropped."""
        with contextlib.suppress(Full):
            self._waiting.put_nowait(None)
        self._thread.join(seconds)

    def soon(self, job_ids: Iterable[int]) -> None:
        """Send hints for jobs whose transaction has committed; returns at once."""
        with contextlib.suppress(Full):
            for job_id in job_ids:
                self._waiting.put_nowait(job_id)

    def _run(self) -> None:
        while (job_id := self._waiting.get()) is not None:
            try:
                if self._hints.send():
                    with self._database.session() as session:
                        mark_hinted(session, [job_id])
                elif self._drop_waiting():
                    return
            except Exception:
                log.warning("no hint was sent or noted for job %d", job_id, exc_info=True)

    def _drop_waiting(self) -> bool:
        """The broker is away: each of those that wait would take seconds to fail. Returns whether to end."""
        with contextlib.suppress(Empty):
            while self._waiting.get_nowait() is not None:
                pass
            return True
        return False
