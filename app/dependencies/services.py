"""The parts of the running service that routes use: the engine, the catalog and so on, made once at start-up."""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from darkroom.app.access.gate import Gate
from darkroom.app.access.open_counts import OpenCounts
from darkroom.app.engine.engine import Engine
from darkroom.app.http.problems import STORE_RETRY_SECONDS, Problem, retry_after
from darkroom.app.jobs.feed import JobFeed
from darkroom.app.jobs.hint_sender import HintSender
from darkroom.app.monitoring.prometheus import PrometheusMetrics
from darkroom.app.settings import Settings
from darkroom.app.versions.catalog import Catalog
from darkroom.store.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """The parts of a running service.

    streams: counts the event streams of each caller. database, job_feed: None without DATABASE_URL.
    hints: None without Redis.
    """

    settings: Settings
    engine: Engine
    catalog: Catalog
    metrics: PrometheusMetrics
    gate: Gate
    streams: OpenCounts
    database: Database | None
    hints: HintSender | None = None
    job_feed: JobFeed | None = None

    @property
    def store(self) -> Database:
        """The database. Raises Problem (503) when the service runs without one."""
        if self.database is None:
            raise _no_database()
        return self.database

    @property
    def feed(self) -> JobFeed:
        """The feed of changes in jobs. Raises Problem (503) when the service runs without a database."""
        if self.job_feed is None:
            raise _no_database()
        return self.job_feed

    def transaction(self) -> AbstractContextManager[Session]:
        """Open one transaction, which is committed when the block ends. For plain `def` routes, which run in a thread.

        Send hints about a change only after the block.
        """
        return self.store.session()

    def require_database(self) -> None:
        """Raise the error of a missing or absent database, before a client sends gigabytes for it."""
        with self.transaction() as session:
            session.connection()

    def hint(self, job_ids: Iterable[int]) -> None:
        """Log committed new jobs, and wake idle workers. Never waits and never fails."""
        queued = list(job_ids)
        if len(queued) == 1:
            log.info("job %d is queued", queued[0], extra={"fields": {"job_id": queued[0]}})
        elif queued:
            log.info("%d jobs are queued", len(queued), extra={"fields": {"job_ids": queued}})
        if queued and self.hints is not None:
            self.hints.send_soon()


def _no_database() -> Problem:
    detail = "the service runs without a database; the operator must start it with DATABASE_URL"
    return Problem(503, "store-unavailable", detail, headers=retry_after(STORE_RETRY_SECONDS))


async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def require_json(request: Request) -> None:
    """Raise Problem (415) unless Content-Type says that the body is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported-media-type", "send the body as Content-Type: application/json")


ServicesHere = Annotated[Services, Depends(_services)]
