"""POST /v1/interpolate: images between two images, by interpolating their start noises and classes."""

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
from darkroom.model.sampling_fit import deterministic

router = APIRouter(tags=["sampling"], route_class=EngineRoute)


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
    mixes = [number / (body.count - 1) for number in range(body.count)]
    names = version.header.class_names
    chosen = chosen_in_time(body, services, version, body.count, checks=[deterministic])
    require_room(body, services, caller, version, chosen.sampling, body.count)
    plan = DrawingPlan(
        version=version,
        rows=tuple(
            RowRequest(
                first,
                body.seeds[0],
                body.indices[0],
                chosen.sampling,
                end_class_index=last,
                end_seed=body.seeds[1],
                end_index=body.indices[1],
                mix=mix,
            )
            for mix in mixes
        ),
        drawn_as=[
            (number, first if mix < 0.5 else last, names[first if mix < 0.5 else last])
            for number, mix in enumerate(mixes)
        ],
        answer=InterpolationAnswer(
            **drawn_by(version, chosen),
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
