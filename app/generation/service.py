"""Finds the settings, the model version and the classes that a request for images means."""

import contextlib
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError

from darkroom.app.access.caller import Caller
from darkroom.app.access.limits import IMAGES, NETWORK_ROWS, Window
from darkroom.app.dependencies.callers import caller_of
from darkroom.app.dependencies.services import Services
from darkroom.app.engine.request import VersionNotLoaded
from darkroom.app.exceptions import at
from darkroom.app.generation.choice import Chosen, choose_by_deadline, choose_by_quality
from darkroom.app.generation.schemas import DEADLINE_SHARE, ClassReference, SamplingFields, SettingsFields
from darkroom.app.http.problems import NOT_READY, Problem, invalid, retry_after
from darkroom.app.versions.version import Version
from darkroom.model import class_names
from darkroom.model.config import SAMPLER_SETTINGS, SamplingConfig
from darkroom.model.sampling.guidance import network_rows_left
from darkroom.model.sampling.scoring import SCORE_NETWORK_ROWS, SCORE_STEPS
from darkroom.model.sampling_fit import Check, Unfit, fitted, suited, suits
from darkroom.model.user_error import fault_text
from darkroom.store.model_repository import ModelNotFound, VersionNotFound, find_model
from darkroom.store.owners import Owner, require_owned


class EngineRoute(APIRoute):
    """A route that draws with the engine. A full queue refuses the request before its body is parsed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler (FastAPI)."""
        handle = super().get_route_handler()

        async def refuse_or_handle(request: Request) -> Response:
            services: Services = request.app.state.services
            await request.body()  # an unread body would close the connection, and the next try would need a new one
            services.engine.require_place(caller_of(request).key_id)
            return await handle(request)

        return refuse_or_handle


def chosen(
    fields: SettingsFields,
    version: Version,
    checks: Sequence[Check] = (),
    fits: Callable[[SamplingConfig], bool] | None = None,
) -> Chosen:
    """Return the settings to draw with: those that the request names, or those picked by quality or deadline.

    checks: further conditions on settings; fits: returns True for settings that meet the deadline, None without one.
    """
    named = [name for name in SAMPLER_SETTINGS if name in fields.named]
    if fields.quality is not None and named:
        detail = f"quality picks this setting: leave out {', '.join(named)}, or leave out quality"
        raise invalid([(f"/{name}", detail) for name in named])
    with _naming_clashes(version):
        settings = fitted(version.header, fields.named, checks)

    def usable(sampling: SamplingConfig) -> bool:
        return suits(version.header, sampling) is None and all(check(sampling) is None for check in checks)

    if fields.quality is not None:
        picked = choose_by_quality(version, settings, fields.quality, usable)
    elif fits is not None and not named:
        picked = choose_by_deadline(version, settings, fits, usable)
    else:
        return Chosen(settings)
    with _naming_clashes(version):
        return replace(picked, sampling=suited(version.header, picked.sampling, fields.named))


def chosen_in_time(
    fields: SamplingFields,
    services: Services,
    version: Version,
    images: int,
    *,
    scored: bool = False,
    checks: Sequence[Check] = (),
) -> Chosen:
    """Like `chosen`, but a request with a deadline gets the best settings that the engine can finish in time."""
    deadline = fields.deadline_seconds
    if deadline is None:
        return chosen(fields, version, checks)

    def fits(sampling: SamplingConfig) -> bool:
        try:
            seconds = services.engine.expected_seconds(
                version.digest, sampling, images, scored=scored, deadline_seconds=deadline
            )
        except VersionNotLoaded:  # it has just left memory; submitting loads it again and then checks the deadline
            return True
        return seconds <= DEADLINE_SHARE * deadline

    return chosen(fields, version, checks, fits)


def require_room(
    fields: SamplingFields,
    services: Services,
    caller: Caller,
    version: Version,
    sampling: SamplingConfig,
    images: int,
    *,
    scored: bool = False,
) -> None:
    """Raise the EngineRefusal that submitting `images` images would raise now, before any work is done for them."""
    with contextlib.suppress(VersionNotLoaded):  # it has just left memory; submitting loads it again
        services.engine.require_room(
            version.digest,
            sampling,
            images,
            scored=scored,
            deadline_seconds=fields.deadline_seconds,
            owner=caller.key_id,
        )


@contextlib.contextmanager
def _naming_clashes(version: Version) -> Iterator[None]:
    """Turn errors of sampling settings into a Problem that names the fields."""
    try:
        yield
    except ValidationError as error:
        raise invalid([("/" + str(e["loc"][0]), fault_text(e)) for e in error.errors()]) from error
    except Unfit as unfit:
        detail = f"{unfit} ({version.name} {version.digest})"
        raise invalid([(f"/{name}", detail) for name in unfit.fields]) from unfit


def drawn_by(services: Services, version: Version, chosen: Chosen) -> dict[str, Any]:
    """Return the facts that every answer has: a fresh id, the version, the settings, their choice, and the device."""
    origin = {"id": uuid.uuid4().hex, "model": version.name, "version": version.digest}
    here = {"choice": chosen.choice, "drawn_on": services.catalog.drawn_on}
    return origin | chosen.sampling.model_dump() | here


async def find_version(services: Services, reference: str | None, owner: Owner | None, *, load: bool = True) -> Version:
    """Return the model version that a request names, and with `load` wait until the engine holds it.

    owner: who asks. The version in production is for everybody, and others are for the model's owner.
    Raises Problem (503) until a model is loaded, OwnedByAnother, and the errors of `Catalog.find` and
    `Catalog.ensure_loaded`.
    """
    if not services.catalog.ready:
        detail = "the service is still loading its first model; try again"
        raise Problem(503, "not-ready", detail, headers=retry_after(2.0) | NOT_READY)
    with at("/model", ModelNotFound, VersionNotFound):  # somebody may delete it meanwhile
        version = await services.catalog.find(reference)
        served = services.catalog.production(version.name)
        if owner is not None and (served is None or served.digest != version.digest):
            await run_in_threadpool(_require_owned, services, version, owner)
        if load:
            await services.catalog.ensure_loaded(version)
    return version


def _require_owned(services: Services, version: Version, owner: Owner) -> None:
    with services.transaction() as session:
        require_owned(session, find_model(session, version.name), owner)


def work_of(version: Version, sampling: SamplingConfig, images: int, *, scored: bool = False) -> dict[Window, int]:
    """Return what images cost in each window of a key: the images, and the network rows of their steps and scores."""
    guidance = 1.0 if sampling.unconditional else sampling.guidance
    rows = network_rows_left(version.header.model.schedule, sampling, guidance)[0]
    rows += SCORE_STEPS * SCORE_NETWORK_ROWS * scored
    return {IMAGES: images, NETWORK_ROWS: images * rows}


def find_classes(version: Version, wanted: ClassReference | list[ClassReference]) -> list[int]:
    """Return the indices of a body's `class`, one or a list. Raises a Problem that names the classes that exist."""
    if isinstance(wanted, list):
        return [find_class(version, one, f"/class/{number}") for number, one in enumerate(wanted)]
    return [find_class(version, wanted, "/class")]


def find_class(version: Version, reference: int | str, pointer: str) -> int:
    """Return the index of the class that a request means; raises a Problem that names the classes that exist."""
    try:
        return class_names.find_class(version.header.class_names, reference, version.header.undrawn)
    except class_names.ClassNotFound as error:
        raise invalid([(pointer, str(error))]) from error
