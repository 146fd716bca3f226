"""GET /storage: how much space each data set, model and job takes."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.services import ServicesHere
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.problems import documented
from darkroom.store.storage_use import OwnerUse, storage_use

router = APIRouter(tags=["storage"])


class OwnerAnswer(BaseModel):
    """A data set, model or job with its bytes in the store."""

    kind: Literal["dataset", "model", "train-job", "generate-job"]
    name: str = Field(description="its name, or a job's number")
    bytes: int = Field(description="bytes that several owners share count for each of them")
    link: str


class StorageAnswer(BaseModel):
    """The space that the store takes."""

    artifact_bytes: int = Field(description="all artifacts, each counted once: weights, states, data sets, archives")
    unused_bytes: int = Field(description="artifacts that nothing uses; the reconciler deletes them after an hour")
    database_bytes: int = Field(
        description="the database on its disk, with records and logs, and with the artifacts that it holds"
    )
    bytes: dict[str, int] = Field(description="by kind of owner; train jobs hold states and sample grids")
    largest: list[OwnerAnswer] = Field(description="the owners with the most bytes, largest first")


@router.get("/storage", responses=documented(422, 500, 503))
def storage(
    services: ServicesHere, caller: CallerHere, limit: Annotated[int, DIGITS, Query(ge=1, le=1000)] = 50
) -> StorageAnswer:
    """Show how much space data sets, models, train jobs and generate jobs take.

    A model's bytes are the weights of its versions. A train job's are its states and sample grids. `bytes` and
    `largest` have only what the caller may use.
    """
    with services.transaction() as session:
        use = storage_use(session, limit, caller.owner)
    return StorageAnswer(
        artifact_bytes=use.artifact_bytes,
        unused_bytes=use.unused_bytes,
        database_bytes=use.database_bytes,
        bytes=dict(use.kinds),
        largest=[_describe(one) for one in use.largest],
    )


def _describe(one: OwnerUse) -> OwnerAnswer:
    link = f"/v1/{one.kind}s/{quote(one.name, safe='')}"
    return OwnerAnswer(kind=one.kind, name=one.name, bytes=one.bytes, link=link)
