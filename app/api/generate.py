"""POST /generate: images of one or more classes."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from app.api.event_stream import EVENT_STREAM
from app.api.problems import documented, invalid
from app.api.sampling import (
    ClassReference,
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

router = APIRouter(tags=["sampling"])


class GenerateRequest(SamplingFields):
    """What to draw. Image j of a class depends on (seed, j), the class and the settings alone.

    So asking for more keeps the first ones, and in a list of classes each has the images that it has alone.
    """

    class_: Annotated[
        ClassReference | Annotated[list[ClassReference], Field(min_length=1, max_length=1000)],
        Field(alias="class", description="a name (case does not matter), an index, or a list of these"),
    ]
    n: Annotated[int, Field(strict=True)] = Field(1, ge=1, description="images of each class")
    seed: Seed | None = Field(None, description="drawn at random when left out; the answer tells it")


class GeneratedImage(BaseModel):
    """One image of a JSON answer."""

    index: int = Field(description="with the seed it fixes the image")
    class_: str = Field(alias="class")
    class_index: int
    png: str = Field(description="base64")


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
    classes: list[str]
    class_indices: list[int]
    timings: Timings
    images: list[GeneratedImage]


class GenerateAnswer(SamplingAnswer):
    """The answer with format json."""

    n: int = Field(description="images of each class")


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


@router.post(
    "/generate", dependencies=[Depends(require_json)], responses=described(GenerateAnswer), response_class=Response
)
async def generate(body: GenerateRequest, request: Request, services: ServicesHere) -> Response:
    """Draw n images of each class."""
    wanted = len(body.class_) if isinstance(body.class_, list) else 1
    limit = services.settings.request_rows
    if body.n * wanted > limit:
        raise invalid([("/n", f"{body.n} images of {wanted} classes are more than {limit} in one request")])
    version = await find_version(services, body.model)
    classes = find_classes(version, body.class_)
    sampling = body.sampling(version)
    seed = random_seed() if body.seed is None else body.seed
    names = version.header.class_names
    plan = Plan(
        version=version,
        sampling=sampling,
        rows=tuple(RowRequest(label, seed, index, sampling) for label in classes for index in range(body.n)),
        drawn_as=[(index, label, names[label]) for label in classes for index in range(body.n)],
        facts={
            "seed": seed,
            "n": body.n,
            "classes": [names[label] for label in classes],
            "class_indices": classes,
        },
        columns=default_columns(len(classes), body.n),
    )
    return await answer(services, request, body, plan)
