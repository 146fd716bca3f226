"""POST /generate: images of one or more classes."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from app.api.choice import ChoiceAnswer
from app.api.event_stream import EVENT_STREAM
from app.api.problems import documented, invalid
from app.api.sampling import (
    CLASS_DESCRIPTION,
    LARGEST_INDEX,
    ClassReference,
    ImageIndex,
    Plan,
    SamplingFields,
    Seed,
    answer,
    find_classes,
    find_version,
    random_seed,
)
from app.api.services import ServicesHere, require_json
from app.encoding import MEDIA_TYPES, default_columns
from app.engine.request import RowRequest
from model.config import SamplingConfig
from model.scoring import SCORE_FORWARD_ROWS, SCORE_NAME, SCORE_STEPS
from model.suitability import NO_NULL_CLASS

router = APIRouter(tags=["sampling"])


class GenerateRequest(SamplingFields):
    """What to draw. Image j of a class depends on (seed, j), the class and the settings alone.

    So asking for more keeps the first ones, and in a list of classes each has the images that it has alone.
    """

    class_: Annotated[
        ClassReference | Annotated[list[ClassReference], Field(min_length=1, max_length=1000)],
        Field(alias="class", description=f"{CLASS_DESCRIPTION}; or a list of these"),
    ]
    n: Annotated[int, Field(strict=True)] = Field(1, ge=1, description="images of each class")
    seed: Seed | None = Field(None, description="drawn at random when left out; the answer tells it")
    first_index: ImageIndex = Field(
        0, description="index of the first image of each class: goes on behind what was drawn, or makes one image again"
    )
    best_of: Annotated[int, Field(strict=True)] | None = Field(
        None,
        ge=1,
        description="draw so many of each class, with the indices from first_index on, and answer the n of them that "
        "score best, best first. The score is the log-likelihood ratio of class and no class in the eyes of the "
        f"network that drew the image, estimated at {SCORE_STEPS} noise levels, which cost "
        f"{SCORE_STEPS * SCORE_FORWARD_ROWS} forward rows an image: higher shows the class more clearly. It depends on "
        "model, image and class alone, and compares "
        "within a class",
    )


class GeneratedImage(BaseModel):
    """One image of a JSON answer."""

    index: int = Field(description="with the seed it fixes the image")
    class_: str = Field(alias="class")
    class_index: int
    png: str = Field(description="base64")
    score: float | None = Field(description="with best_of")


class Timings(BaseModel):
    """Where the time went."""

    queue_seconds: float
    run_seconds: float


class SamplingAnswer(BaseModel):
    """What every JSON answer tells; binary formats carry the same facts in Darkroom-* headers."""

    id: str
    model: str
    version: str
    sampler: str
    steps: int
    spacing: str
    guidance: float
    guidance_interval: tuple[float, float] | None
    guide: str
    threshold: str
    percentile: float
    eta: float
    variance: str
    seed: int
    choice: ChoiceAnswer | None = Field(description="how sampler and steps were picked, where the request left it open")
    classes: list[str]
    class_indices: list[int]
    timings: Timings
    images: list[GeneratedImage]


class GenerateAnswer(SamplingAnswer):
    """The answer with format json."""

    n: int = Field(description="images of each class")
    first_index: int
    best_of: int | None = Field(description="images of each class that were drawn; null for n")
    score: str | None = Field(description="the score's name, with best_of")
    indices: list[int] | None = Field(description="the images', with best_of")
    scores: list[float] | None = Field(description="the images', with best_of")


def described(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a sampling route whose JSON answer has the form `model`."""
    binary: dict[str, Any] = {
        media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()
    }
    binary["application/json"] = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    binary[EVENT_STREAM] = {"schema": {"type": "string"}}
    return {200: {"description": "The images", "model": model, "content": binary}} | documented(
        400, 406, 410, 413, 415, 422, 429, 500, 503, 504
    )


def _images_drawn(body: GenerateRequest, classes: int, limit: int) -> int:
    """Of each class; raises Problem for more in all than `limit`."""
    if body.best_of is None:
        if body.n * classes > limit:
            raise invalid([("/n", f"{body.n} images of {classes} classes are more than {limit} in one request")])
        return body.n
    if body.best_of < body.n:
        raise invalid([("/best_of", f"the best {body.n} of {body.best_of} images cannot be answered")])
    if body.best_of * classes > limit:
        detail = f"{body.best_of} images of {classes} classes are more than {limit} in one request"
        raise invalid([("/best_of", detail)])
    return body.best_of


@router.post(
    "/generate", dependencies=[Depends(require_json)], responses=described(GenerateAnswer), response_class=Response
)
async def generate(body: GenerateRequest, request: Request, services: ServicesHere) -> Response:
    """Draw n images of each class, or the best n of more.

    Sampler and steps may be named, left to `quality`, or left to `deadline_seconds`; `choice` in the answer tells what
    was picked and by what measurement.
    """
    wanted = len(body.class_) if isinstance(body.class_, list) else 1
    count = _images_drawn(body, wanted, services.settings.request_rows)
    if body.first_index + count - 1 > LARGEST_INDEX:
        raise invalid([("/first_index", f"the last of {count} images would have an index above {LARGEST_INDEX}")])
    version = await find_version(services, body.model)
    if body.best_of is not None and not version.header.null_class:
        raise invalid([("/best_of", f"scores compare with no class, and {NO_NULL_CLASS}: leave it out")])
    classes = find_classes(version, body.class_)
    seed = random_seed() if body.seed is None else body.seed
    names = version.header.class_names
    indices = range(body.first_index, body.first_index + count)

    def rows(sampling: SamplingConfig) -> tuple[RowRequest, ...]:
        return tuple(RowRequest(label, seed, index, sampling) for label in classes for index in indices)

    chosen = body.chosen_in_time(services, version, rows, scored=body.best_of is not None)
    if body.best_of is not None and chosen.sampling.unconditional:
        raise invalid([("/best_of", "guidance 0 draws images of no class, and the score is of a class")])
    plan = Plan(
        version=version,
        sampling=chosen.sampling,
        rows=rows(chosen.sampling),
        drawn_as=[(index, label, names[label]) for label in classes for index in indices],
        facts={
            "seed": seed,
            "n": body.n,
            "first_index": body.first_index,
            "classes": [names[label] for label in classes],
            "class_indices": classes,
            **chosen.facts,
            "best_of": body.best_of,
            "score": None if body.best_of is None else SCORE_NAME,
            "indices": None,
            "scores": None,
        },
        columns=default_columns(len(classes), body.n),
        best_of=None if body.best_of is None else (body.n, body.best_of),
    )
    return await answer(services, request, body, plan)
