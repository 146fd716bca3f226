"""POST /v1/interpolate: images between two images, by interpolating their start noises and classes."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.services import ServicesHere, require_json
from darkroom.app.engine.request import RowRequest
from darkroom.app.generation.drawing import DrawingPlan, answer
from darkroom.app.generation.routes import described
from darkroom.app.generation.schemas import InterpolateRequest, InterpolationAnswer
from darkroom.app.generation.service import (
    EngineRoute,
    chosen_in_time,
    drawn_by,
    find_classes,
    find_version,
    require_room,
)
from darkroom.model.config import SamplingConfig
from darkroom.model.sampling_fit import deterministic

router = APIRouter(tags=["sampling"], route_class=EngineRoute)


def path_mixes(count: int) -> list[float]:
    """Return the places of the images on the path: 0 is the first image, 1 the last."""
    return [number / (count - 1) for number in range(count)]


def path_rows(
    seeds: Sequence[int],
    indices: Sequence[int],
    labels: Sequence[int],
    mixes: Sequence[float],
    sampling: SamplingConfig,
) -> list[RowRequest]:
    """Return the rows of an interpolation. seeds, indices, labels: of the first and of the last image."""
    return [
        RowRequest(
            labels[0],
            seeds[0],
            indices[0],
            sampling,
            end_class_index=labels[1],
            end_seed=seeds[1],
            end_index=indices[1],
            mix=mix,
        )
        for mix in mixes
    ]


@router.post(
    "/interpolate",
    dependencies=[Depends(require_json)],
    responses=described(InterpolationAnswer),
    response_class=Response,
)
async def interpolate(
    body: InterpolateRequest, request: Request, services: ServicesHere, caller: CallerHere
) -> Response:
    """Draw images along the spherical path between two start noises, and the straight one between two classes.

    `quality` and a deadline pick among deterministic samplers.
    """
    version = await find_version(services, body.model, caller.owner)
    classes = find_classes(version, body.class_)
    first, last = classes[0], classes[-1]
    mixes = path_mixes(body.count)
    names = version.header.class_names
    chosen = chosen_in_time(body, services, version, body.count, checks=[deterministic])
    require_room(body, services, caller, version, chosen.sampling, body.count)
    plan = DrawingPlan(
        version=version,
        rows=tuple(path_rows(body.seeds, body.indices, (first, last), mixes, chosen.sampling)),
        drawn_as=[
            (number, first if mix < 0.5 else last, names[first if mix < 0.5 else last])
            for number, mix in enumerate(mixes)
        ],
        answer=InterpolationAnswer(
            **drawn_by(services, version, chosen),
            seed=body.seeds[0],
            seeds=body.seeds,
            indices=body.indices,
            classes=[names[first], names[last]],
            class_indices=[first, last],
            mixes=[round(mix, 6) for mix in mixes],
        ),
        columns=body.count,
    )
    return await answer(services, request, body, plan)
