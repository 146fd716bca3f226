"""POST /generate: images of one or more classes."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.services import ServicesHere, require_json
from darkroom.app.engine.request import RowRequest
from darkroom.app.generation.drawing import DrawingPlan, answer
from darkroom.app.generation.encoding import MEDIA_TYPES
from darkroom.app.generation.schemas import GenerateAnswer, GenerateRequest
from darkroom.app.generation.service import (
    EngineRoute,
    chosen_in_time,
    drawn_by,
    find_classes,
    find_version,
    require_room,
)
from darkroom.app.http.event_stream import EVENT_STREAM
from darkroom.app.http.problems import documented, invalid
from darkroom.model.images.pictures import default_columns
from darkroom.model.provenance import LARGEST_INDEX, random_seed
from darkroom.model.sampling.scoring import SCORE_NAME
from darkroom.model.sampling.suitability import NO_NULL_CLASS
from darkroom.model.words import several

router = APIRouter(tags=["sampling"], route_class=EngineRoute)


def described(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a sampling route. model: the form of its JSON answer."""
    binary: dict[str, Any] = {
        media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()
    }
    binary["application/json"] = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    binary[EVENT_STREAM] = {"schema": {"type": "string"}}
    return {200: {"description": "The images", "model": model, "content": binary}} | documented(
        400, 406, 410, 412, 413, 415, 422, 429, 500, 503, 504
    )


def _images_drawn(body: GenerateRequest, classes: int, limit: int) -> int:
    """Return the number of images to draw of each class. Raises Problem if all classes need more than `limit`."""
    if body.best_of is None:
        if body.n * classes > limit:
            raise invalid([("/n", _too_many(body.n, classes, limit))])
        return body.n
    if body.best_of < body.n:
        raise invalid([("/best_of", f"best_of must be at least n: of {body.best_of} there are no best {body.n}")])
    if body.best_of * classes > limit:
        raise invalid([("/best_of", _too_many(body.best_of, classes, limit))])
    return body.best_of


def _too_many(images: int, classes: int, limit: int) -> str:
    return (
        f"{several(images, 'image')} of {several(classes, 'class')} are more than the {limit} that one request may draw"
    )


@router.post(
    "/generate", dependencies=[Depends(require_json)], responses=described(GenerateAnswer), response_class=Response
)
async def generate(body: GenerateRequest, request: Request, services: ServicesHere, caller: CallerHere) -> Response:
    """Draw n images of each class, or the best n of more.

    A request names sampler and steps, or lets `quality` or `deadline_seconds` pick them. `choice` in the answer says
    what was picked, and by which measurement.
    """
    wanted = len(body.class_) if isinstance(body.class_, list) else 1
    count = _images_drawn(body, wanted, services.settings.request_rows)
    if body.first_index + count - 1 > LARGEST_INDEX:
        raise invalid([("/first_index", f"the last of {count} images would have an index above {LARGEST_INDEX}")])
    version = await find_version(services, body.model, caller.owner)
    if body.best_of is not None and not version.header.null_class:
        raise invalid([("/best_of", f"a score compares the class with no class, and {NO_NULL_CLASS}: leave it out")])
    classes = find_classes(version, body.class_)
    seed = random_seed() if body.seed is None else body.seed
    names = version.header.class_names
    indices = range(body.first_index, body.first_index + count)
    images, scored = len(classes) * count, body.best_of is not None
    chosen = chosen_in_time(body, services, version, images, scored=scored)
    if scored and chosen.sampling.unconditional:
        raise invalid([("/best_of", "guidance 0 draws images of no class, and a score needs one: change guidance")])
    require_room(body, services, caller, version, chosen.sampling, images, scored=scored)
    plan = DrawingPlan(
        version=version,
        rows=tuple(RowRequest(label, seed, index, chosen.sampling) for label in classes for index in indices),
        drawn_as=[(index, label, names[label]) for label in classes for index in indices],
        answer=GenerateAnswer(
            **drawn_by(services, version, chosen),
            seed=seed,
            n=body.n,
            first_index=body.first_index,
            classes=[names[label] for label in classes],
            class_indices=classes,
            best_of=body.best_of,
            score=None if body.best_of is None else SCORE_NAME,
        ),
        columns=default_columns(len(classes), body.n),
        best_of=None if body.best_of is None else (body.n, body.best_of),
    )
    return await answer(services, request, body, plan)
