"""What the routers share: the engine, the catalog and the rest, made once at start-up."""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from darkroom.app.access.gate import Gate
from darkroom.app.engine.engine import Engine
from darkroom.app.http.problems import STORE_RETRY_SECONDS, Problem, encoded, retry_after
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

    database, job_feed: None when no DATABASE_URL is set; hints: None without a broker.
    """

    settings: Settings
    engine: Engine
    catalog: Catalog
    metrics: PrometheusMetrics
    gate: Gate
    database: Database | None
    hints: HintSender | None = None
    job_feed: JobFeed | None = None

    @property
    def store(self) -> Database:
        """The database; raises Problem (503) when the service runs without one."""
        if self.database is None:
            raise _no_database()
        return self.database

    @property
    def feed(self) -> JobFeed:
        """What changes in jobs; raises Problem (503) when the service runs without a database."""
        if self.job_feed is None:
            raise _no_database()
        return self.job_feed

    def transaction(self) -> AbstractContextManager[Session]:
        """One transaction, for a plain `def` route, which FastAPI runs in a thread: committed when the block ends.

        What others are told of the change follows the block.
        """
        return self.store.session()

    def hint(self, job_ids: Iterable[int]) -> None:
        """Tell idle workers, and the log, of jobs that were queued and committed; never waits, never fails."""
        queued = list(job_ids)
        if len(queued) == 1:
            log.info("job %d is queued", queued[0], extra={"fields": {"job_id": queued[0]}})
        elif queued:
            log.info("%d jobs are queued", len(queued), extra={"fields": {"job_ids": queued}})
        if queued and self.hints is not None:
            self.hints.soon()


def _no_database() -> Problem:
    detail = "the service was started without DATABASE_URL"
    return Problem(503, "store-unavailable", detail, headers=retry_after(STORE_RETRY_SECONDS))


async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def require_json(request: Request) -> None:
    """Refuse a body that does not say it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported-media-type", "send the body as Content-Type: application/json")
    if (refusal := encoded(request)) is not None:
        raise refusal


ServicesHere = Annotated[Services, Depends(_services)]
