"""GET /v1/train-jobs/{id}/events: sends a job's past events and then new ones, each exactly once.

A stored event has its number as id. `progress` has no id, so that Last-Event-ID stays the number of the last stored
event. The stream stays open while the database cannot be reached, and sends `end` when the job has ended. It sends
`reconnect` when the service stops: the client then connects again, with Last-Event-ID.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from darkroom.app.dependencies.callers import CallerHere, hold_stream
from darkroom.app.dependencies.services import Services, ServicesHere
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.event_stream import EVENT_STREAM, KEEPALIVE, KEEPALIVE_SECONDS, STREAM_HEADERS, comment, sse
from darkroom.app.http.problems import documented
from darkroom.app.jobs.feed import JobFeed
from darkroom.app.train_jobs.answers import progress
from darkroom.app.train_jobs.records import LARGEST_NUMBER
from darkroom.app.train_jobs.routes import JobId
from darkroom.app.train_jobs.service import get_train_job
from darkroom.store.database import DatabaseAway
from darkroom.store.job_repository import FINISHED, JobNotFound
from darkroom.store.job_views import Glimpse
from darkroom.store.owners import Owner
from darkroom.store.tables import JobEvent

router = APIRouter(tags=["training"])

AWAY_SECONDS = 1.0
"""Pause between two attempts to read while the database cannot be reached."""

RECONNECT_MILLISECONDS = 1000
"""A browser waits this long before it connects again."""

EventNumber = Annotated[
    int,
    DIGITS,
    Query(ge=0, le=LARGEST_NUMBER, description="the number of the last event seen; Last-Event-ID overrides it"),
]


@router.get(
    "/train-jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses=documented(404, 422, 500, 503)
    | {200: {"description": "The events", "content": {EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
async def events(
    job_id: JobId,
    request: Request,
    services: ServicesHere,
    caller: CallerHere,
    last_event_id: Annotated[
        int | None, DIGITS, Header(ge=0, le=LARGEST_NUMBER, description="the number of the last event seen")
    ] = None,
    after: EventNumber = 0,
) -> StreamingResponse:
    """Server-sent events: the stored ones after the last one seen, `progress`, and `end` when the job has finished.

    When the service stops, the last event is `reconnect`: connect again, with Last-Event-ID.
    """
    hold_stream(request, services)
    feed = services.feed
    await run_in_threadpool(_require_owned, services, job_id, caller.owner)
    first = await feed.now(job_id)
    if first is None:
        raise JobNotFound(job_id)
    seen = after if last_event_id is None else last_event_id
    return StreamingResponse(_stream(feed, job_id, first, seen), media_type=EVENT_STREAM, headers=STREAM_HEADERS)


def _require_owned(services: Services, job_id: int, owner: Owner | None) -> None:
    with services.transaction() as session:
        get_train_job(session, job_id, owner)


async def _stream(feed: JobFeed, job_id: int, glimpse: Glimpse, seen: int) -> AsyncIterator[bytes]:
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n".encode()
    shown: tuple[int, float | None] | None = None
    sent = time.monotonic()
    while not feed.closed:
        try:
            while seen < glimpse.event_count:
                for event in await feed.events(job_id, seen):
                    yield sse(event.kind, _data(event), event.number)
                    seen, sent = event.number, time.monotonic()
            now = (glimpse.images_done, glimpse.last.loss if glimpse.last else None)
            if now != shown:
                yield sse("progress", _progress(glimpse))
                shown, sent = now, time.monotonic()
            if glimpse.status in FINISHED:
                yield sse("end", {"status": glimpse.status})
                return
            if time.monotonic() - sent > KEEPALIVE_SECONDS:
                yield KEEPALIVE
                sent = time.monotonic()
            if (now_seen := await feed.next(job_id)) is None:
                return  # it ended and was deleted between two looks
            glimpse = now_seen
        except DatabaseAway:
            yield comment("the database cannot be reached; events continue when it is back")
            sent = time.monotonic()
            await asyncio.sleep(AWAY_SECONDS)
    yield sse("reconnect", {"detail": "the service is stopping; its next process continues the events"})


def _data(event: JobEvent) -> dict[str, Any]:
    return event.data | {"at": event.created_at.isoformat()}


def _progress(glimpse: Glimpse) -> dict[str, Any]:
    now = progress(glimpse.status, glimpse.images_done, glimpse.total_images, glimpse.last)
    return {"status": glimpse.status, **now.model_dump()}
