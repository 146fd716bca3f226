"""The feed of changes in jobs. One database query serves all waiting readers, however many they are."""

import asyncio
from collections.abc import Mapping, Sequence

from darkroom.store.database import Database
from darkroom.store.job_repository import events_after
from darkroom.store.job_views import Glimpse, glimpse_jobs
from darkroom.store.tables import JobEvent

POLL_SECONDS = 0.5
READERS = 2
"""The feed uses at most this many connections of the pool at the same time."""

EVENTS_AT_ONCE = 200


class JobFeed:
    """Reads jobs for many clients. Use its coroutines on one event loop; they raise the database's errors.

    closed: the service is stopping, so readers must end.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted: set[int] = set()
        self._round: asyncio.Task[Mapping[int, Glimpse]] | None = None
        self._reading = asyncio.Semaphore(READERS)
        self.closed = False

    def close(self) -> None:
        """Ask every reader to end, because the service stops. Any thread may call this."""
        self.closed = True

    async def now(self, job_id: int) -> Glimpse | None:
        """Read the job immediately; None when there is no such train job."""
        async with self._reading:
            return (await asyncio.to_thread(self._look, {job_id})).get(job_id)

    async def next(self, job_id: int) -> Glimpse | None:
        """Wait at most POLL_SECONDS, then read once for all waiting readers."""
        self._wanted.add(job_id)
        if self._round is None:
            self._round = asyncio.create_task(self._look_together())
        return (await asyncio.shield(self._round)).get(job_id)

    async def events(self, job_id: int, after: int) -> Sequence[JobEvent]:
        """Read at most EVENTS_AT_ONCE events with numbers greater than `after`."""
        async with self._reading:
            return await asyncio.to_thread(self._read, job_id, after)

    async def _look_together(self) -> Mapping[int, Glimpse]:
        await asyncio.sleep(POLL_SECONDS)
        wanted, self._wanted, self._round = self._wanted, set(), None
        async with self._reading:
            return await asyncio.to_thread(self._look, wanted)

    def _look(self, job_ids: set[int]) -> Mapping[int, Glimpse]:
        with self._database.reading() as session:
            return glimpse_jobs(session, job_ids)

    def _read(self, job_id: int, after: int) -> Sequence[JobEvent]:
        with self._database.reading() as session:
            return events_after(session, job_id, after, EVENTS_AT_ONCE)
