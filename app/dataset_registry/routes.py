"""/datasets: registers labelled images, uploaded as an archive or stored where the workers can read them."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from darkroom.app.dataset_registry.request_body import (
    is_json,
    read_path,
    read_upload,
)
from darkroom.app.dataset_registry.schemas import (
    ClassAnswer,
    DatasetAnswer,
    DatasetChanges,
    DatasetName,
    DatasetsAnswer,
    PathBody,
    UploadQuery,
)
from darkroom.app.dataset_registry.service import decode_and_register
from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.deletion import DryRun, delete, deletion_answers
from darkroom.app.dependencies.idempotency import IdempotencyKey
from darkroom.app.dependencies.paging import Limit
from darkroom.app.dependencies.services import ServicesHere, require_json
from darkroom.app.http.problems import documented
from darkroom.store.audit_repository import record
from darkroom.store.dataset_repository import (
    contact_sheet_bytes,
    get_dataset,
    list_datasets,
    lock_dataset,
    rename_dataset,
)
from darkroom.store.deletion import delete_dataset
from darkroom.store.tables import Dataset

router = APIRouter(tags=["datasets"])


_decoder = ThreadPoolExecutor(1, thread_name_prefix="dataset")
"""Decodes one data set at a time: it may fill gigabytes, and the engine needs the other cores."""


def _address(name: str) -> str:
    return f"/v1/datasets/{quote(name, safe='')}"


def _describe(row: Dataset) -> DatasetAnswer:
    side, channels = row.image_size, row.image_channels
    return DatasetAnswer(
        name=row.name,
        format=row.format,
        source="upload" if row.configuration is None else "path",
        path=None if row.configuration is None else row.configuration["path"],
        digest=row.digest,
        classes=[
            ClassAnswer(name=name, images=count) for name, count in zip(row.class_names, row.class_counts, strict=True)
        ],
        images=row.image_count,
        image_shape=(channels, side, side),
        size_bytes=row.image_count * channels * side * side,
        contact_sheet=f"{_address(row.name)}/contact-sheet",
        keep=row.keep,
        created_at=row.created_at,
    )


def _parameters(query: type[BaseModel]) -> list[Mapping[str, Any]]:
    schema = query.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": described,
            "description": described.pop("description", "")
            + (" (required for an upload)" * (name in schema["required"])),
        }
        for name, described in schema["properties"].items()
    ]


_DESCRIBED: dict[str, Any] = {
    "parameters": _parameters(UploadQuery),
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": PathBody.model_json_schema()},
        },
    },
}


@router.post(
    "/datasets",
    status_code=201,
    openapi_extra=_DESCRIBED,
    responses=documented(400, 409, 413, 415, 422, 500, 503, 507)
    | {200: {"model": DatasetAnswer, "description": "The data set exists already"}},
)
async def register(
    request: Request,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    idempotency_key: IdempotencyKey = None,
) -> DatasetAnswer:
    """Register a data set: upload an archive, or name a path that the workers can read.

    **Upload**: the body is the archive, the query describes it:
    `curl --data-binary @clothes.zip 'http://HOST/v1/datasets?name=clothes&format=zip'`.
    **Path**: the body is JSON (`Content-Type: application/json`) with the same fields and `path`; without a query.

    If a data set with this name exists, the answer is 200 and describes it when the content is the same, and 409
    otherwise.
    """
    by_path = is_json(request.headers.get("content-type", ""))
    await run_in_threadpool(services.require_database)
    wanted = await (read_path(request, services.settings) if by_path else read_upload(request))
    loop = asyncio.get_running_loop()
    registered = await loop.run_in_executor(
        _decoder, decode_and_register, services.store, services.settings, wanted, caller.actor, idempotency_key
    )
    response.status_code = 201 if registered.created else 200
    response.headers["Location"] = _address(registered.dataset.name)
    return _describe(registered.dataset)


@router.get("/datasets", responses=documented(422, 500, 503))
def datasets(
    services: ServicesHere,
    after: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="the last name of the previous page")
    ] = None,
    limit: Limit = 50,
) -> DatasetsAnswer:
    """Data sets by name."""
    with services.transaction() as session:
        page = list_datasets(session, after, limit)
    return DatasetsAnswer(datasets=[_describe(row) for row in page.datasets], next_after=page.next_after)


@router.get("/datasets/{name}", responses=documented(404, 422, 500, 503))
def dataset(services: ServicesHere, name: Annotated[DatasetName, PathParameter()]) -> DatasetAnswer:
    """One data set."""
    with services.transaction() as session:
        return _describe(get_dataset(session, name))


@router.get(
    "/datasets/{name}/contact-sheet",
    response_class=Response,
    responses=documented(404, 422, 500, 503)
    | {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def sheet(services: ServicesHere, name: Annotated[DatasetName, PathParameter()]) -> Response:
    """A PNG with the first images of each class, one line for each class."""
    with services.transaction() as session:
        picture = contact_sheet_bytes(session, get_dataset(session, name))
    return Response(picture, media_type="image/png")


@router.patch(
    "/datasets/{name}",
    dependencies=[Depends(require_json)],
    responses=documented(400, 404, 409, 413, 415, 422, 500, 503),
)
def change(
    body: DatasetChanges, services: ServicesHere, caller: CallerHere, name: Annotated[DatasetName, PathParameter()]
) -> DatasetAnswer:
    """Rename a data set, or mark it to be kept. Its jobs keep a renamed one; a running job goes on."""
    with services.transaction() as session:
        row = lock_dataset(session, name)
        if "keep" in body.model_fields_set:
            row.keep = body.keep
            record(session, caller.actor, "dataset.marked", f"datasets/{name}", {"keep": body.keep})
        if "name" in body.model_fields_set:
            row = rename_dataset(session, name, body.name)
            record(session, caller.actor, "dataset.renamed", f"datasets/{name}", {"to": body.name})
        return _describe(row)


@router.delete(
    "/datasets/{name}",
    status_code=204,
    response_class=Response,
    responses=deletion_answers(),
)
def remove(
    services: ServicesHere,
    caller: CallerHere,
    name: Annotated[DatasetName, PathParameter()],
    force: Annotated[bool, Query(description="delete it even if ended jobs were trained on it")] = False,
    dry_run: DryRun = False,
) -> Response:
    """Delete a data set. Its bytes are freed within hours.

    If jobs use it, the answer is 409, and `dependents` lists them. Unfinished jobs always prevent the deletion: cancel
    them first. With `force`, ended jobs do not. They and their models stay, but fail if somebody resumes them.
    """

    def work(session: Session) -> None:
        delete_dataset(session, caller.actor, name, force=force and not dry_run)

    return delete(services, dry_run, work)
