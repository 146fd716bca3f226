"""Sends a planned request through the engine and makes the answer, in the format that the client asks for."""

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from darkroom.app.dependencies.callers import caller_of, hold_stream
from darkroom.app.dependencies.services import Services
from darkroom.app.engine.engine import Ticket
from darkroom.app.engine.request import (
    Event,
    Failed,
    Finished,
    Preview,
    Progress,
    RowDone,
    RowRequest,
    SampleRequest,
    Timings,
    VersionNotLoaded,
)
from darkroom.app.generation.encoding import MEDIA_TYPES, WEBP_LARGEST_SIDE, Drawn, encode, reproducing, sheet_size
from darkroom.app.generation.engine_trace import traced
from darkroom.app.generation.schemas import Answer, Format, SamplingFields
from darkroom.app.generation.service import work_of
from darkroom.app.http.accept import choose
from darkroom.app.http.event_stream import EVENT_STREAM, KEEPALIVE, KEEPALIVE_SECONDS, STREAM_HEADERS, sse
from darkroom.app.http.file_answer import entity_tag, names
from darkroom.app.http.problems import Problem, invalid, retry_after
from darkroom.app.versions.version import Version
from darkroom.model.images.described_png import described_png

RELOADS = 3

HEADER_ITEMS, HEADER_CHARACTERS = 64, 1500
"""A longer list is in the body only, because clients and proxies accept a few thousand bytes of headers."""

ENCODERS = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="encode")
"""Encoding has its own threads, because all shared ones may be waiting for a database that does not answer."""

_OFFERS: Mapping[str, tuple[Format, bool]] = {
    **{MEDIA_TYPES[name]: (name, False) for name in ("png", "webp", "json", "zip", "npz")},
    "application/octet-stream": ("npz", False),
    EVENT_STREAM: ("json", True),
}
"""Media type -> (format, stream). A wildcard means the first one that it matches."""


def negotiate(fields: SamplingFields, accept: str) -> tuple[Format, bool]:
    """Return (format, stream). The body decides, then the Accept header; the default is png. Raises Problem (406)."""
    if fields.format is not None:
        return fields.format, fields.stream
    if fields.stream:
        return "json", True
    # a wildcard in the Accept header does not ask for a stream
    media = choose(accept, list(_OFFERS), only_by_name=(EVENT_STREAM,))
    if media is None:
        raise Problem(406, "not-acceptable", f"the Accept header must name one of {', '.join(_OFFERS)}")
    return _OFFERS[media]


@dataclass(frozen=True)
class DrawingPlan:
    """A request that is ready to draw.

    drawn_as: each row's index, class index and class name in the answer.
    answer: the parts of the answer that are known before drawing; columns: of a grid.
    best_of: (n, k): answer the n best-scored rows of each group of k rows, best first.
    """

    version: Version
    rows: tuple[RowRequest, ...]
    drawn_as: Sequence[tuple[int, int, str]]
    answer: Answer
    columns: int
    best_of: tuple[int, int] | None = None

    @property
    def images(self) -> int:
        """Number of images in the answer."""
        if self.best_of is None:
            return len(self.rows)
        n, k = self.best_of
        return len(self.rows) // k * n

    def best(self, drawn: Mapping[int, RowDone]) -> list[RowDone]:
        """Return the rows of the answer in their order. drawn: all drawn rows by their number."""
        if self.best_of is None:
            return [drawn[row] for row in range(len(self.rows))]
        n, k = self.best_of
        of_each = (range(first, first + k) for first in range(0, len(self.rows), k))
        return [drawn[row] for rows in of_each for row in sorted(rows, key=lambda row: (-_score(drawn[row]), row))[:n]]

    def finished(self, best: Sequence[RowDone], timings: Timings) -> Answer:
        """Return the final answer without its images. best: the rows of the answer in their order."""
        rounded = Timings(round(timings.queue_seconds, 4), round(timings.run_seconds, 4))
        facts: dict[str, Any] = {"timings": rounded}
        if self.best_of is not None:
            facts |= {"indices": [self.drawn_as[one.row][0] for one in best], "scores": [one.score for one in best]}
        return self.answer.model_copy(update=facts)


def _score(done: RowDone) -> float:
    assert done.score is not None
    return done.score


class _Events:
    """A submitted request's events, on the event loop.

    Keeps only the newest unread progress event, and the newest unread preview of each row. So a client that does not
    read costs no memory.

    progress: whether anybody reads progress events. Otherwise they do not wake the event loop at every step.
    """

    def __init__(self, *, progress: bool) -> None:
        self._progress = progress
        self._waiting: dict[tuple[type, int], Event] = {}
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def sink(self, event: Event) -> None:
        """Receive an event on the engine's thread."""
        if isinstance(event, Progress) and not self._progress:
            return
        with contextlib.suppress(RuntimeError):  # the loop has closed, so no client waits
            self._loop.call_soon_threadsafe(self._keep, event)

    def _keep(self, event: Event) -> None:
        key = (type(event), event.row if isinstance(event, Preview | RowDone) else 0)
        self._waiting.pop(key, None)
        self._waiting[key] = event
        self._arrived.set()

    async def next(self, timeout_seconds: float | None = None) -> Event | None:
        """Return the next event, or None if none arrives in time."""
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout_seconds)
        except TimeoutError:
            return None
        event = self._waiting.pop(next(iter(self._waiting)))
        if not self._waiting:
            self._arrived.clear()
        return event


async def answer(services: Services, request: Request, fields: SamplingFields, plan: DrawingPlan) -> Response:
    """Draw the plan's rows and return the answer in the format that the client asks for."""
    wanted, stream = negotiate(fields, request.headers.get("accept", ""))
    if fields.grid is False and wanted in ("png", "webp") and plan.images > 1 and not stream:
        detail = f"{plan.images} images in one {wanted} are always a grid; for single images take zip, npz or json"
        raise invalid([("/grid", detail)])
    if wanted == "webp" and not stream:
        _require_fits_webp(plan)
    scored = plan.best_of is not None
    if stream:
        hold_stream(request, services)
        events = _Events(progress=True)
        ticket = await _submit(services, request, fields, plan.version, plan.rows, events, scored=scored, previews=True)
        return StreamingResponse(
            _stream(ticket, events, plan),
            media_type=EVENT_STREAM,
            headers=_headers(plan.answer) | STREAM_HEADERS,
        )
    rows, timings = await draw(services, request, fields, plan.version, plan.rows, scored=scored)
    done = plan.best(rows)
    drawn = [Drawn(*plan.drawn_as[one.row], one.image, one.score) for one in done]
    final = plan.finished(done, timings)
    loop = asyncio.get_running_loop()
    body, tag = await loop.run_in_executor(ENCODERS, _encoded, drawn, final, wanted, plan.columns)
    if names(request.headers.getlist("if-none-match"), tag):
        raise Problem(412, "not-changed", "If-None-Match names the file that this request draws", headers={"ETag": tag})
    headers = _headers(final) | {
        "ETag": tag,
        "Darkroom-Queue-Seconds": f"{timings.queue_seconds:.4f}",
        "Darkroom-Run-Seconds": f"{timings.run_seconds:.4f}",
        "Server-Timing": f"queue;dur={1e3 * timings.queue_seconds:.1f}, run;dur={1e3 * timings.run_seconds:.1f}",
        "Vary": "Accept",
    }
    if wanted in ("zip", "npz"):
        headers["Content-Disposition"] = f'attachment; filename="darkroom-{final.id[:8]}.{wanted}"'
    return Response(body, media_type=MEDIA_TYPES[wanted], headers=headers)


def _encoded(drawn: Sequence[Drawn], final: Answer, wanted: Format, columns: int) -> tuple[bytes, str]:
    """Return the body and its entity tag."""
    body = encode(drawn, final, wanted, columns)
    return body, entity_tag(body)


def _require_fits_webp(plan: DrawingPlan) -> None:
    side = plan.version.header.model.image_size
    width, height = sheet_size(plan.images, plan.columns, side)
    if max(width, height) > WEBP_LARGEST_SIDE:
        detail = f"the grid has {width}x{height} pixels; webp allows {WEBP_LARGEST_SIDE} a side: take png, zip or npz"
        raise invalid([("/format", detail)])


async def _submit(
    services: Services,
    request: Request,
    fields: SamplingFields,
    version: Version,
    rows: Sequence[RowRequest],
    events: _Events,
    *,
    scored: bool,
    previews: bool = False,
) -> Ticket:
    """Charge the caller's key for the rows and submit them."""
    caller = caller_of(request)
    work = work_of(version, rows[0].sampling, len(rows), scored=scored)
    await services.gate.charge(caller, work)
    every = fields.preview_every_steps if previews else 0
    wanted = SampleRequest(version.digest, tuple(rows), fields.deadline_seconds, every, scored, caller.key_id)
    try:
        return await _submitted(services, version, wanted, events)
    except Exception:  # the engine draws nothing
        await services.gate.give_back(caller, work)
        raise


async def _submitted(services: Services, version: Version, wanted: SampleRequest, events: _Events) -> Ticket:
    """Submit rows. Load their version again if it has left memory for another one, up to RELOADS times."""
    for _ in range(RELOADS):
        try:
            return services.engine.submit(wanted, traced(events.sink, wanted))
        except VersionNotLoaded:
            await services.catalog.ensure_loaded(version)
    detail = "the model version left memory for others before the request could start; try again"
    raise Problem(503, "unavailable", detail, headers=retry_after(1.0))


async def _gone(request: Request) -> None:
    """Return when the client has left. Call it after the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def draw(
    services: Services,
    request: Request,
    fields: SamplingFields,
    version: Version,
    rows: Sequence[RowRequest],
    *,
    scored: bool = False,
) -> tuple[dict[int, RowDone], Timings]:
    """Return the drawn rows by their number. Cancels if the client leaves or this coroutine ends early.

    Call it after the body has been read. Raises Problem and EngineRefusal.
    """
    events = _Events(progress=False)
    ticket = await _submit(services, request, fields, version, rows, events, scored=scored)
    gone = asyncio.create_task(_gone(request))
    work = asyncio.create_task(_collect(events))
    try:
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Problem(400, "client-closed-request", "the client left")  # only logs and Prometheus metrics see it
        return work.result()
    finally:
        ticket.cancel()
        gone.cancel()
        work.cancel()


async def _collect(events: _Events) -> tuple[dict[int, RowDone], Timings]:
    drawn: dict[int, RowDone] = {}
    while True:
        event = await events.next()
        if isinstance(event, RowDone):
            drawn[event.row] = event
        elif isinstance(event, Failed):
            raise _failure(event)
        elif isinstance(event, Finished):
            return drawn, event.timings


def _failure(event: Failed) -> Problem:
    if event.reason == "deadline":
        return Problem(504, "deadline-passed", event.detail)
    if event.reason == "shutdown":
        return Problem(503, "unavailable", event.detail, headers=retry_after(5.0))
    return Problem(500, "internal", event.detail)


async def _stream(ticket: Ticket, events: _Events, plan: DrawingPlan) -> AsyncIterator[bytes]:
    """Yield server-sent events: `preview`, `image`, `progress`, and last `done` or `error`.

    Images come as they are finished. With best_of, the answer's images come at the end, in their order.
    """
    drawn: dict[int, RowDone] = {}
    try:
        while True:
            event = await events.next(KEEPALIVE_SECONDS)
            if event is None:
                yield KEEPALIVE
            elif isinstance(event, RowDone) and plan.best_of is not None:
                drawn[event.row] = event
            elif isinstance(event, Preview | RowDone):
                yield await _picture_event(event, plan, plan.answer)
            elif isinstance(event, Progress):
                yield sse("progress", {"done_steps": event.done_steps, "total_steps": event.total_steps})
            elif isinstance(event, Finished):
                best = plan.best(drawn) if plan.best_of is not None else []
                final = plan.finished(best, event.timings)
                for one in best:
                    yield await _picture_event(one, plan, final)
                yield sse("done", final.model_dump(exclude={"images"}))
                return
            else:
                yield sse("error", _failure(event).details())
                return
    finally:
        ticket.cancel()


async def _picture_event(event: Preview | RowDone, plan: DrawingPlan, facts: Answer) -> bytes:
    index, class_index, class_name = plan.drawn_as[event.row]
    about: dict[str, Any] = {"index": index, "class": class_name, "class_index": class_index}
    written: dict[str, Any] = {}
    if isinstance(event, RowDone):
        about |= {} if event.score is None else {"score": event.score}
        written = reproducing(facts) | about
    else:
        about |= {"step": event.step, "steps": event.steps}
    about = {"row": event.row} | about
    loop = asyncio.get_running_loop()
    encoded = await loop.run_in_executor(ENCODERS, described_png, event.image, written)
    about["png"] = base64.b64encode(encoded).decode()
    return sse("preview" if isinstance(event, Preview) else "image", about)


def _headers(facts: Answer) -> dict[str, str]:
    texts = {
        name: _header_text(value)
        for name, value in facts.model_dump(exclude={"timings", "mixes", "images"}).items()
        if value is not None and not (isinstance(value, list) and len(value) > HEADER_ITEMS)
    }
    return {
        "Darkroom-" + name.replace("_", "-").title(): text
        for name, text in texts.items()
        if len(text) <= HEADER_CHARACTERS
    }


def _header_text(value: Any) -> str:
    """Return a header's value in plain ASCII. Characters of other scripts are escaped as in JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isascii() and text.isprintable() else json.dumps(text)
