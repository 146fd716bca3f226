"""The feed of what changes in jobs. One look at the database serves all readers that wait, however many they are."""

import asyncio
from collections.abc import Mapping, Sequence

from darkroom.store.database import Database
from darkroom.store.job_repository import events_after
from darkroom.store.job_views import Glimpse, glimpse_jobs
from darkroom.store.tables import JobEvent

POLL_SECONDS = 0.5
READERS = 2
"""Readers that use the database at the same time, so that the feed takes no more of the pool's connections."""

EVENTS_AT_ONCE = 200


class JobFeed:
    """See the module. Its coroutines are for one event loop, and pass on the database's errors.

    closed: readers are to end.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted: set[int] = set()
        self._round: asyncio.Task[Mapping[int, Glimpse]] | None = None
        self._reading = asyncio.Semaphore(READERS)
        self.closed = False

    def close(self) -> None:
        """Ask every reader to end, because the service ends. May be called in any thread."""
        self.closed = True

    async def now(self, job_id: int) -> Glimpse | None:
        """A look at once; None when there is no such train job."""
        async with self._reading:
            return (await asyncio.to_thread(self._look, {job_id})).get(job_id)

    async def next(self, job_id: int) -> Glimpse | None:
        """Waits POLL_SECONDS at most, then looks once for all readers that wait."""
        self._wanted.add(job_id)
        if self._round is None:
            self._round = asyncio.create_task(self._look_together())
        return (await asyncio.shield(self._round)).get(job_id)

    async def events(self, job_id: int, after: int) -> Sequence[JobEvent]:
        """At most EVENTS_AT_ONCE events behind number `after`."""
        async with self._reading:
            return await asyncio.to_thread(self._read, job_id, after)

    async def _look_together(self) -> Mapping[int, Glimpse]:
        await asyncio.sleep(POLL_SECONDS)
        wanted, self._wanted, self._round = self._wanted, set(), None
        async with self._reading:
            return await asyncio.to_thread(self._look, wanted)

    def _look(self, job_ids: set[int]) -> Mapping[int, Glimpse]:
        with self._database.session() as session:
            return glimpse_jobs(session, job_ids)

    def _read(self, job_id: int, after: int) -> Sequence[JobEvent]:
        with self._database.session() as session:
            return events_after(session, job_id, after, EVENTS_AT_ONCE)
