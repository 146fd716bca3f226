"""What generate and interpolate share: their common fields, the way through the engine, and the forms of the answer."""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from app.access.limits import IMAGES
from app.api.accept import choose
from app.api.callers import caller_of
from app.api.choice import (
    DEADLINE_DESCRIPTION,
    DEADLINE_SHARE,
    QUALITY_DESCRIPTION,
    Chosen,
    choose_by_deadline,
    choose_by_quality,
)
from app.api.engine_trace import traced
from app.api.event_stream import EVENT_STREAM, KEEPALIVE, KEEPALIVE_SECONDS, STREAM_HEADERS, sse
from app.api.problems import Problem, invalid, retry_after
from app.api.services import Services
from app.catalog import Version
from app.encoding import MEDIA_TYPES, WEBP_LARGEST_SIDE, Drawn, Format, encode, sheet_size
from app.engine.engine import Ticket
from app.engine.request import (
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
from model.config import GuideName, SamplerName, SamplingConfig, SpacingName, ThresholdName, VarianceName
from model.image_archive import described_png
from model.metrics.frontier import SAMPLER_SETTINGS, Quality
from model.sampling_fit import Check, Unfit, fitted, suited, suits

LARGEST_SEED = 2**63 - 1
LARGEST_INDEX = 2**31 - 1
RANDOM_SEED_BITS = 53
"""Seeds drawn by the service are numbers that JavaScript holds exactly."""

RELOADS = 3

HEADER_ITEMS, HEADER_CHARACTERS = 64, 1500
"""A longer list is in the body only: clients and proxies take a few thousand bytes of headers."""

_encoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="encode")
"""Threads of their own: the common ones may all be waiting for a database that does not answer."""

ClassReference = StrictInt | StrictStr
"""A class of the model, as `find_class` reads it."""

CLASS_DESCRIPTION = (
    "a name, else a name in another case, else an index: 2 is the class of the name 2 where there is one"
)
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NoiseLevel = Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)]
ImageIndex = Annotated[int, Field(strict=True, ge=0, le=LARGEST_INDEX)]


class SettingsFields(BaseModel):
    """How images are drawn, and by which model.

    The model's card supplies the settings that a request leaves out. Those of the card that do not go with the named
    ones take their defaults: the spacing first (`trailing`), then steps, guide, variance, guidance, threshold and
    guidance_interval. The answer tells what was taken.
    """

    model_config = ConfigDict(extra="forbid")

    guidance: Finite | None = Field(
        None, ge=0.0, le=100.0, description="w: 1 is plain conditional, 0 unconditional, more than 1 guided"
    )
    guidance_interval: tuple[NoiseLevel, NoiseLevel] | None = Field(
        None,
        description="[low, high] in sigma/alpha: at other noise levels guidance is 1 and a step costs one forward row; "
        "[0, 1000000] is everywhere",
    )
    guide: GuideName | None = Field(
        None,
        description="what guidance leads away from: no class, or an earlier snapshot of the network that the model "
        "carries (`snapshot_images` in GET /v1/models)",
    )
    steps: Annotated[int, Field(strict=True)] | None = Field(None, ge=1, le=1000)
    spacing: SpacingName | None = Field(
        None,
        description="of the steps' noise levels: evenly in time from pure noise (trailing), or from sigma/alpha = 80 "
        "evenly in log-SNR or by EDM's polynomial (edm; edm_coarse ends at 0.08, below which training seldom goes)",
    )
    sampler: SamplerName | None = Field(
        None, description="ddpm and, with eta, ddim add noise on the way; the others are deterministic"
    )
    threshold: ThresholdName | None = None
    percentile: Finite | None = Field(None, gt=0.0, le=1.0, description="of dynamic thresholding")
    eta: Finite | None = Field(None, ge=0.0, le=1.0, description="of ddim")
    variance: VarianceName | None = Field(
        None, description="of ddpm; `learned` for models that have learned variances (`model.unet.learned_variance`)"
    )
    model: StrictStr | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}(@[A-Za-z0-9:._-]{1,80})?$",
        description="NAME, NAME@production, NAME@NUMBER or NAME@sha256:...",
    )

    quality: Quality | None = Field(None, description=QUALITY_DESCRIPTION)

    def chosen(
        self,
        version: Version,
        fits: Callable[[SamplingConfig], bool] | None = None,
        checks: Sequence[Check] = (),
    ) -> Chosen:
        """The settings to draw with; sampler and steps are picked where the request leaves them to.

        fits: whether settings can be met in time, where there is a time; checks: what the request asks of settings.
        """
        named = [name for name in SAMPLER_SETTINGS if getattr(self, name) is not None]
        if self.quality is not None and named:
            detail = f"quality picks it: leave out {', '.join(named)} or leave out quality"
            raise invalid([(f"/{name}", detail) for name in named])
        settings = self.sampling(version, checks)

        def usable(sampling: SamplingConfig) -> bool:
            return suits(version.header, sampling) is None and all(check(sampling) is None for check in checks)

        if self.quality is not None:
            chosen = choose_by_quality(version, settings, self.quality, usable)
        elif fits is not None and not named:
            chosen = choose_by_deadline(version, settings, fits, usable)
        else:
            return Chosen(settings)
        with _naming_clashes(version):
            return replace(chosen, sampling=suited(version.header, chosen.sampling, self._named()))

    def sampling(self, version: Version, checks: Sequence[Check] = ()) -> SamplingConfig:
        """The settings that the request names, and the model's own where they go with these."""
        with _naming_clashes(version):
            return fitted(version.header, self._named(), checks)

    def _named(self) -> dict[str, Any]:
        return self.model_dump(include=set(SamplingConfig.model_fields), exclude_none=True)


@contextlib.contextmanager
def _naming_clashes(version: Version) -> Iterator[None]:
    """Turns what is wrong with settings into the Problem that names them."""
    try:
        yield
    except ValidationError as error:
        raise invalid([("/" + str(e["loc"][0]), e["msg"]) for e in error.errors()]) from error
    except Unfit as unfit:
        detail = f"{unfit} ({version.name} {version.digest})"
        raise invalid([(f"/{name}", detail) for name in unfit.fields]) from unfit


class SamplingFields(SettingsFields):
    """Fields that every request has whose images are drawn at once."""

    deadline_seconds: Finite | None = Field(None, gt=0.0, le=86_400.0, description=DEADLINE_DESCRIPTION)
    format: Format | None = Field(None, description="without it the Accept header decides; else png")
    grid: StrictBool | None = Field(None, description="png and webp of several images are always one grid")
    stream: StrictBool = Field(False, description="server-sent events with previews")
    preview_every_steps: Annotated[int, Field(strict=True)] = Field(5, ge=1, le=1000, description="with stream")

    def chosen_in_time(
        self,
        services: Services,
        version: Version,
        rows: Callable[[SamplingConfig], tuple[RowRequest, ...]],
        *,
        scored: bool = False,
        checks: Sequence[Check] = (),
    ) -> Chosen:
        """Likewise; where there is a deadline, by what the engine expects of the `rows` that settings would give."""
        deadline = self.deadline_seconds
        if deadline is None:
            return self.chosen(version, None, checks)

        def fits(sampling: SamplingConfig) -> bool:
            wanted = SampleRequest(version.digest, rows(sampling), deadline, scored=scored)
            try:
                return services.engine.expected_seconds(wanted) <= DEADLINE_SHARE * deadline
            except VersionNotLoaded:  # since a moment ago; it is loaded again before the request is judged
                return True

        return self.chosen(version, fits, checks)


def random_seed() -> int:
    """A seed for a request that names none."""
    return secrets.randbits(RANDOM_SEED_BITS)


async def find_version(services: Services, reference: str | None, *, load: bool = True) -> Version:
    """The model version that a request names, in the engine when `load`.

    Raises Problem while nothing is loaded yet, and what the catalog raises.
    """
    if not services.catalog.ready:
        raise Problem(503, "not-ready", "the model is still being loaded", headers=retry_after(2.0))
    version = await services.catalog.find(reference)
    if load:
        await services.catalog.ensure_loaded(version)
    return version


def find_classes(version: Version, wanted: ClassReference | list[ClassReference]) -> list[int]:
    """The indices of a body's `class`, one or a list; raises Problem naming those that exist."""
    if isinstance(wanted, list):
        return [find_class(version, one, f"/class/{number}") for number, one in enumerate(wanted)]
    return [find_class(version, wanted, "/class")]


def find_class(version: Version, reference: int | str, pointer: str) -> int:
    """The index of the class that a request means: by its exact name, else its name in any case, else its index.

    A name wins because classes may be called by numbers: 2 is the class "2" where there is one, also as a JSON
    integer. Raises Problem naming the classes that exist.
    """
    names, text = version.header.class_names, str(reference)
    if text in names:
        return names.index(text)
    wanted = text.strip().casefold()
    alike = [index for index, name in enumerate(names) if name.casefold() == wanted]
    if len(alike) > 1:
        meant = ", ".join(names[index] for index in alike)
        raise invalid([(pointer, f"{text[:100]!r} may be any of: {meant}; write it exactly")])
    indices = alike or [index for index in range(len(names)) if str(index) == wanted]
    if indices:
        return indices[0]
    there_are = f"there are: {', '.join(names)}, or by index 0..{len(names) - 1}"
    raise invalid([(pointer, f"there is no class {text[:100]!r}; {there_are}")])


_OFFERS: Mapping[str, tuple[Format, bool]] = {
    **{MEDIA_TYPES[name]: (name, False) for name in ("png", "webp", "json", "zip", "npz")},
    "application/octet-stream": ("npz", False),
    EVENT_STREAM: ("json", True),
}
"""Media type -> format and whether to stream. The order decides what a wildcard means."""


def negotiate(fields: SamplingFields, accept: str) -> tuple[Format, bool]:
    """The format, and whether to stream: the body decides, then the Accept header, then png. Raises Problem (406)."""
    if fields.format is not None:
        return fields.format, fields.stream
    if fields.stream:
        return "json", True
    # nobody is streamed to who did not ask for it
    media = choose(accept, list(_OFFERS), only_by_name=(EVENT_STREAM,))
    if media is None:
        raise Problem(406, "not-acceptable", f"choose one of {', '.join(_OFFERS)}")
    return _OFFERS[media]


@dataclass(frozen=True)
class Plan:
    """A request made ready. drawn_as: for each row its index, class index and class name in the answer.

    facts: the answer's JSON members that are known before drawing; columns: of a grid.
    best_of: (n, k) where of each k rows the n that score best are answered, best first.
    """

    version: Version
    sampling: SamplingConfig
    rows: tuple[RowRequest, ...]
    drawn_as: Sequence[tuple[int, int, str]]
    facts: Mapping[str, Any]
    columns: int
    best_of: tuple[int, int] | None = None

    @property
    def answered(self) -> int:
        """How many images the answer has."""
        if self.best_of is None:
            return len(self.rows)
        n, k = self.best_of
        return len(self.rows) // k * n

    def best(self, drawn: Mapping[int, RowDone]) -> list[RowDone]:
        """The rows of the answer in their order. drawn: all of them by number."""
        if self.best_of is None:
            return [drawn[row] for row in range(len(self.rows))]
        n, k = self.best_of
        of_each = (range(first, first + k) for first in range(0, len(self.rows), k))
        return [drawn[row] for rows in of_each for row in sorted(rows, key=lambda row: (-_score(drawn[row]), row))[:n]]


def _score(done: RowDone) -> float:
    assert done.score is not None
    return done.score


class _Events:
    """A submitted request's events on the event loop.

    Of the progress and each row's previews that nobody has taken yet only the newest is kept, so that a client who
    does not read costs no memory.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[type, int], Event] = {}
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def sink(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._keep, event)

    def _keep(self, event: Event) -> None:
        key = (type(event), event.row if isinstance(event, Preview | RowDone) else 0)
        self._waiting.pop(key, None)
        self._waiting[key] = event
        self._arrived.set()

    async def next(self, timeout_seconds: float | None = None) -> Event | None:
        """The next event; None when none came in time."""
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout_seconds)
        except TimeoutError:
            return None
        event = self._waiting.pop(next(iter(self._waiting)))
        if not self._waiting:
            self._arrived.clear()
        return event


async def answer(services: Services, request: Request, fields: SamplingFields, plan: Plan) -> Response:
    """Draw the plan's rows and answer in the form that was asked for."""
    wanted, stream = negotiate(fields, request.headers.get("accept", ""))
    if fields.grid is False and wanted in ("png", "webp") and plan.answered > 1 and not stream:
        raise invalid([("/grid", f"{plan.answered} images in one {wanted} are a grid; single images: zip, npz, json")])
    if wanted == "webp" and not stream:
        _require_fits_webp(plan)
    facts = {
        "id": uuid.uuid4().hex,
        "model": plan.version.name,
        "version": plan.version.digest,
        **plan.sampling.model_dump(),
        **plan.facts,
    }
    events, caller = _Events(), caller_of(request)
    await services.gate.charge(caller, IMAGES, len(plan.rows))
    try:
        ticket = await _submit_loaded(services, fields, plan, events, previews=stream)
    except Exception:  # nothing is drawn
        await services.gate.give_back(caller, IMAGES, len(plan.rows))
        raise
    if stream:
        return StreamingResponse(
            _stream(ticket, events, plan, facts),
            media_type=EVENT_STREAM,
            headers=_headers(facts) | STREAM_HEADERS,
        )
    done, timings = await _draw(request, ticket, events, plan)
    drawn = [Drawn(*plan.drawn_as[one.row], one.image, one.score) for one in done]
    facts["timings"] = _timings(timings)
    facts |= _ranks(plan, done)
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(_encoders, encode, drawn, facts, wanted, plan.columns)
    headers = _headers(facts) | {
        "Darkroom-Queue-Seconds": f"{timings.queue_seconds:.4f}",
        "Darkroom-Run-Seconds": f"{timings.run_seconds:.4f}",
        "Server-Timing": f"queue;dur={1e3 * timings.queue_seconds:.1f}, run;dur={1e3 * timings.run_seconds:.1f}",
        "Vary": "Accept",
    }
    if wanted in ("zip", "npz"):
        headers["Content-Disposition"] = f'attachment; filename="darkroom-{facts["id"][:8]}.{wanted}"'
    return Response(body, media_type=MEDIA_TYPES[wanted], headers=headers)


def _require_fits_webp(plan: Plan) -> None:
    side = plan.version.header.model.unet.image_size
    width, height = sheet_size(plan.answered, plan.columns, side)
    if max(width, height) > WEBP_LARGEST_SIDE:
        detail = f"a grid of {width}x{height} pixels is more than webp's {WEBP_LARGEST_SIDE}; take png, zip or npz"
        raise invalid([("/format", detail)])


async def _submit_loaded(
    services: Services, fields: SamplingFields, plan: Plan, events: _Events, *, previews: bool
) -> Ticket:
    """Submit; a version that had to leave memory for others since it was found is loaded again, a few times."""
    for _ in range(RELOADS):
        try:
            return _submit(services, fields, plan, events, previews=previews)
        except VersionNotLoaded:
            await find_version(services, f"{plan.version.name}@{plan.version.digest}")
    raise Problem(503, "unavailable", "that version had to leave memory for others", headers=retry_after(1.0))


def _submit(services: Services, fields: SamplingFields, plan: Plan, events: _Events, *, previews: bool) -> Ticket:
    every = fields.preview_every_steps if previews else 0
    scored = plan.best_of is not None
    wanted = SampleRequest(plan.version.digest, plan.rows, fields.deadline_seconds, every, scored)
    return services.engine.submit(wanted, traced(events.sink, wanted))


async def _gone(request: Request) -> None:
    """Return when the client has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _draw(request: Request, ticket: Ticket, events: _Events, plan: Plan) -> tuple[list[RowDone], Timings]:
    """The images of the answer in order. Cancels when the client leaves, and whenever this coroutine ends early."""
    gone = asyncio.create_task(_gone(request))
    work = asyncio.create_task(_collect(events, plan))
    try:
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Problem(400, "client-closed-request", "the client left")  # nobody reads it; logs and metrics do
        return work.result()
    finally:
        ticket.cancel()
        gone.cancel()
        work.cancel()


async def _collect(events: _Events, plan: Plan) -> tuple[list[RowDone], Timings]:
    drawn: dict[int, RowDone] = {}
    while True:
        event = await events.next()
        if isinstance(event, RowDone):
            drawn[event.row] = event
        elif isinstance(event, Failed):
            raise _failure(event)
        elif isinstance(event, Finished):
            return plan.best(drawn), event.timings


def _failure(event: Failed) -> Problem:
    if event.reason == "deadline":
        return Problem(504, "deadline-passed", event.detail)
    if event.reason == "shutdown":
        return Problem(503, "unavailable", event.detail, headers=retry_after(5.0))
    return Problem(500, "internal", event.detail)


async def _stream(ticket: Ticket, events: _Events, plan: Plan, facts: dict[str, Any]) -> AsyncIterator[bytes]:
    """Server-sent events: `preview`, `image`, `progress`, and last `done` or `error`.

    Images come as they are finished; with best_of those of the answer in its order, at the end.
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
                yield await _picture_event(event, plan, facts)
            elif isinstance(event, Progress):
                yield sse("progress", {"done_steps": event.done_steps, "total_steps": event.total_steps})
            elif isinstance(event, Finished):
                best = plan.best(drawn) if plan.best_of is not None else []
                facts |= _ranks(plan, best)
                for one in best:
                    yield await _picture_event(one, plan, facts)
                yield sse("done", facts | {"timings": _timings(event.timings)})
                return
            else:
                yield sse("error", _failure(event).details())
                return
    finally:
        ticket.cancel()


def _ranks(plan: Plan, best: Sequence[RowDone]) -> dict[str, Any]:
    """The members of the answer that tell how the images were picked, if they were."""
    if plan.best_of is None:
        return {}
    return {"indices": [plan.drawn_as[one.row][0] for one in best], "scores": [one.score for one in best]}


async def _picture_event(event: Preview | RowDone, plan: Plan, facts: Mapping[str, Any]) -> bytes:
    index, class_index, class_name = plan.drawn_as[event.row]
    about: dict[str, Any] = {"row": event.row, "index": index, "class": class_name, "class_index": class_index}
    if isinstance(event, Preview):
        about |= {"step": event.step, "steps": event.steps}
    elif event.score is not None:
        about["score"] = event.score
    written = dict(facts) | about if isinstance(event, RowDone) else {}
    loop = asyncio.get_running_loop()
    encoded = await loop.run_in_executor(_encoders, described_png, event.image, written)
    about["png"] = base64.b64encode(encoded).decode()
    return sse("preview" if isinstance(event, Preview) else "image", about)


def _timings(timings: Timings) -> dict[str, float]:
    return {"queue_seconds": round(timings.queue_seconds, 4), "run_seconds": round(timings.run_seconds, 4)}


def _headers(facts: Mapping[str, Any]) -> dict[str, str]:
    texts = {
        name: _header_text(value)
        for name, value in facts.items()
        if name not in ("timings", "mixes")
        and value is not None
        and not (isinstance(value, list) and len(value) > HEADER_ITEMS)
    }
    return {
        "Darkroom-" + name.replace("_", "-").title(): text
        for name, text in texts.items()
        if len(text) <= HEADER_CHARACTERS
    }


def _header_text(value: Any) -> str:
    """A header's value: plain ASCII; names in other scripts are escaped as in JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isascii() and text.isprintable() else json.dumps(text)
