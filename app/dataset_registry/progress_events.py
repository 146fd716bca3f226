"""Answers with server-sent events while long work goes on, if the client asks for them.

An answer in one piece is silent until the work ends, and proxies cut silent connections.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from darkroom.app.dataset_registry.progress_board import ProgressBoard
from darkroom.app.dependencies.callers import hold_stream
from darkroom.app.dependencies.services import Services
from darkroom.app.exceptions import ANSWERS, problem_of
from darkroom.app.http.accept import choose
from darkroom.app.http.event_stream import EVENT_STREAM, KEEPALIVE, KEEPALIVE_SECONDS, STREAM_HEADERS, sse
from darkroom.model.progress import Pace

LOOK_SECONDS = 0.5


def wants_events(request: Request, services: Services) -> bool:
    """Return True when the client asks for events, which then count as one of its streams. Raises Problem (429)."""
    offers = ("application/json", EVENT_STREAM)
    if choose(request.headers.get("accept", ""), offers, only_by_name=(EVENT_STREAM,)) != EVENT_STREAM:
        return False
    hold_stream(request, services)
    return True


def progress_events(work: asyncio.Future[BaseModel], board: ProgressBoard) -> StreamingResponse:
    """Answer with events: `progress` with what `board` says, and last `done` with the work's result, or `error`.

    When the client leaves, the work ends at its next news.
    """
    return StreamingResponse(_events(work, board), media_type=EVENT_STREAM, headers=STREAM_HEADERS)


async def _events(work: asyncio.Future[BaseModel], board: ProgressBoard) -> AsyncIterator[bytes]:
    pace, shown, sent = Pace(), None, time.monotonic()
    try:
        while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
            news = board.read()
            if news is not None and news != shown:
                pace.take(news.what, news.done)
                yield sse("progress", news.model_dump() | {"eta_seconds": pace.seconds_left(news.total)})
                shown, sent = news, time.monotonic()
            elif time.monotonic() - sent > KEEPALIVE_SECONDS:
                yield KEEPALIVE
                sent = time.monotonic()
    finally:
        if not work.done():
            board.stop()
            work.cancel()
    try:
        answer = work.result()
    except tuple(ANSWERS) as error:
        yield sse("error", problem_of(error).details())
    else:
        yield sse("done", answer.model_dump(mode="json", by_alias=True))
