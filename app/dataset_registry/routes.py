"""/datasets: registers labelled images, uploaded as an archive or stored where the workers can read them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, BinaryIO, TypeVar
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from darkroom.app.access.caller import Caller
from darkroom.app.dataset_registry.checking import check as checked
from darkroom.app.dataset_registry.progress_board import ProgressBoard
from darkroom.app.dataset_registry.progress_events import progress_events, wants_events
from darkroom.app.dataset_registry.request_body import (
    is_json,
    read_path,
    read_upload,
)
from darkroom.app.dataset_registry.schemas import (
    CheckAnswer,
    ClassAnswer,
    DatasetAnswer,
    DatasetChanges,
    DatasetName,
    DatasetsAnswer,
    LeftOutAnswer,
    NewDatasetName,
    PathBody,
    SplitAnswer,
    UploadQuery,
)
from darkroom.app.dataset_registry.service import decode_and_register
from darkroom.app.dataset_registry.stored_images import open_images
from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.deletion import DryRun, delete, deletion_answers
from darkroom.app.dependencies.idempotency import IdempotencyKey
from darkroom.app.dependencies.paging import Limit
from darkroom.app.dependencies.services import Services, ServicesHere, require_json
from darkroom.app.exceptions import at
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.event_stream import EVENT_STREAM
from darkroom.app.http.file_answer import FileRequestHere, artifact_answer, content_answer, documented_file
from darkroom.app.http.problems import documented, invalid
from darkroom.model.datasets.contact_sheet import shown
from darkroom.model.images.pictures import grid, png
from darkroom.store.audit_repository import record
from darkroom.store.dataset_repository import (
    DatasetNotFound,
    get_dataset,
    list_datasets,
    lock_dataset,
    rename_dataset,
)
from darkroom.store.deletion import delete_dataset
from darkroom.store.tables import Dataset

router = APIRouter(tags=["datasets"])

T = TypeVar("T")

MOST_AT_ONCE = 20
"""How many images are read before they are scaled down; one may have 3 MiB."""


_decoder = ThreadPoolExecutor(1, thread_name_prefix="dataset")
"""Decodes one data set at a time: it may fill gigabytes, and the engine needs the other cores."""


def _in_decoder(work: Callable[[], T], board: ProgressBoard, file: BinaryIO | None = None) -> asyncio.Future[T]:
    """Return the result of the work. file: what it reads, to be closed if it is cancelled while it waits."""
    waiting = [work]

    def begin() -> T:
        board.write("starting", 0, None)
        return waiting.pop()()

    def drop(_: object) -> None:
        with contextlib.suppress(IndexError):  # it has begun, and closes the file itself
            waiting.pop()
            if file is not None:
                file.close()

    board.write("waiting until another data set is decoded", 0, None)
    future = asyncio.get_running_loop().run_in_executor(_decoder, begin)
    future.add_done_callback(drop)
    return future


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
        version=row.version,
        replaced=row.replaced_by is not None,
        shared=row.api_key_id is None,
        flat_grounds=row.flat_grounds,
        left_out=LeftOutAnswer.model_validate(row.reading) if row.reading else None,
        splits=[SplitAnswer.model_validate(one) for one in (row.reading or {}).get("splits", [])],
    )


def _parameters(query: type[BaseModel], *left_out: str) -> list[Mapping[str, Any]]:
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
        if name not in left_out
    ]


def _without(body: type[BaseModel], *left_out: str) -> Mapping[str, Any]:
    schema = body.model_json_schema()
    del schema["title"]  # generators of clients would look for a component of this name
    for name in left_out:
        del schema["properties"][name]
    return schema | {"required": [name for name in schema["required"] if name not in left_out]}


def _described(*left_out: str) -> dict[str, Any]:
    """Return the OpenAPI description of an upload. left_out: fields that the address has instead."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = _without(UploadQuery, "format", *left_out)
    return {
        "parameters": _parameters(UploadQuery, *left_out),
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {"schema": {**form, "properties": {**form["properties"], "files": files}}},
                "application/json": {"schema": _without(PathBody, *left_out)},
            },
        },
    }


_EVENTS = {EVENT_STREAM: {"schema": {"type": "string"}}}
_REGISTERED = documented(400, 409, 413, 415, 422, 500, 503, 507) | {
    200: {"model": DatasetAnswer, "description": "The data set has this content already", "content": _EVENTS}
}


@router.post(
    "/datasets",
    status_code=201,
    response_model=DatasetAnswer,
    openapi_extra=_described(),
    responses=_REGISTERED,
)
async def register(
    request: Request,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    idempotency_key: IdempotencyKey = None,
) -> DatasetAnswer | Response:
    """Register a data set: upload an archive or a folder's files, or name a path that the workers can read.

    **Archive**: the body is the archive, the query describes it:
    `curl --data-binary @clothes.zip 'http://HOST/v1/datasets?name=clothes&format=zip'`.
    **Folder**: the body is a form (`multipart/form-data`) with a file for each picture, whose file name is its path
    below the folder, such as `shirts/1.png`. The other fields are in the form or in the query, without `format`.
    **Path**: the body is JSON (`Content-Type: application/json`) with the same fields and `path`; without a query.

    If a data set with this name exists, the answer is 200 and describes it when the content is the same, and 409
    otherwise. With `Accept: text/event-stream`, events say how many pictures are decoded, and when this ends. When the
    client leaves these events, the upload ends and stores nothing.
    """
    return await _registered(request, response, services, caller, idempotency_key)


async def _registered(
    request: Request,
    response: Response,
    services: Services,
    caller: Caller,
    key: str | None = None,
    name: str | None = None,
) -> DatasetAnswer | Response:
    """Register what the request holds. name: of the data set to replace."""
    read = read_path if is_json(request.headers.get("content-type", "")) else read_upload
    await run_in_threadpool(services.require_database)
    with_events = wants_events(request, services)
    wanted, board = await read(request, services.settings, name), ProgressBoard()
    work = partial(decode_and_register, services.store, services.settings, wanted, caller, key, board)
    if with_events:
        return progress_events(_in_decoder(lambda: _describe(work().dataset), board, wanted.file), board)
    registered = await _in_decoder(work, board, wanted.file)
    response.status_code = 201 if registered.created else 200
    response.headers["Location"] = _address(registered.dataset.name)
    return _describe(registered.dataset)


@router.put(
    "/datasets/{name}",
    status_code=201,
    response_model=DatasetAnswer,
    openapi_extra=_described("name"),
    responses=_REGISTERED,
)
async def replace(
    request: Request,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    name: Annotated[NewDatasetName, PathParameter()],
) -> DatasetAnswer | Response:
    """Register a data set under a name that may be taken. Body and query are those of POST, without `name`.

    Other content under this name becomes an earlier version: it gets the name NAME@VERSION, and its jobs keep it.
    """
    return await _registered(request, response, services, caller, name=name)


@router.get("/datasets", responses=documented(422, 500, 503))
def datasets(
    services: ServicesHere,
    caller: CallerHere,
    after: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="the last name of the previous page")
    ] = None,
    limit: Limit = 50,
    earlier_of: Annotated[
        DatasetName | None, Query(description="lists the earlier versions of this data set instead of the others")
    ] = None,
) -> DatasetsAnswer:
    """Data sets by name: those that the caller may use."""
    with services.transaction() as session:
        with at("earlier_of", DatasetNotFound):
            current = None if earlier_of is None else get_dataset(session, earlier_of, caller.owner)
        page = list_datasets(session, after, limit, current, caller.owner)
    return DatasetsAnswer(datasets=[_describe(row) for row in page.datasets], next_after=page.next_after)


@router.get("/datasets/{name}", responses=documented(404, 422, 500, 503))
def dataset(services: ServicesHere, caller: CallerHere, name: Annotated[DatasetName, PathParameter()]) -> DatasetAnswer:
    """One data set."""
    with services.transaction() as session:
        return _describe(get_dataset(session, name, caller.owner))


@router.get(
    "/datasets/{name}/contact-sheet",
    response_class=Response,
    responses=documented(404, 422, 500, 503) | documented_file("The contact sheet", "image/png"),
)
def sheet(
    services: ServicesHere, caller: CallerHere, asked: FileRequestHere, name: Annotated[DatasetName, PathParameter()]
) -> Response:
    """A PNG with the first images of each class, one line for each class."""
    with services.transaction() as session:
        digest = get_dataset(session, name, caller.owner).contact_sheet_digest
    return artifact_answer(services.store, digest, asked, "image/png")


@router.get(
    "/datasets/{name}/pictures",
    response_class=Response,
    responses=documented(404, 409, 422, 500, 503) | documented_file("The images", "image/png"),
)
def pictures(
    services: ServicesHere,
    caller: CallerHere,
    asked: FileRequestHere,
    name: Annotated[DatasetName, PathParameter()],
    class_: Annotated[
        str | None, Query(alias="class", max_length=1000, description="shows images of this class")
    ] = None,
    offset: Annotated[int, DIGITS, Query(ge=0, description="how many of them to leave out")] = 0,
    limit: Annotated[int, DIGITS, Query(ge=1, le=500, description="most images")] = 100,
    index: Annotated[
        list[Annotated[int, DIGITS]] | None, Query(max_length=100, description="shows the images of these numbers")
    ] = None,
    columns: Annotated[int, DIGITS, Query(ge=1, le=100, description="images in a line")] = 10,
) -> Response:
    """A PNG with a page of a data set's images, of one class or of all, line by line. Large images are scaled down."""
    with services.transaction() as session:
        row = get_dataset(session, name, caller.owner)
    stored = open_images(services.store, services.settings, row)
    if index is not None:
        if not all(0 <= one < row.image_count for one in index):
            raise invalid([("index", f"the data set has the images 0 to {row.image_count - 1}")])
        indices = index
    elif class_ is None:
        indices = list(range(row.image_count))[offset : offset + limit]
    elif class_ in row.class_names:
        indices = np.flatnonzero(stored.labels == row.class_names.index(class_))[offset : offset + limit].tolist()
    else:
        raise invalid([("class", f"the data set has no class {class_!r}")])
    if not indices:
        raise invalid([("offset", "there are no images after this one")])
    batches = (indices[start : start + MOST_AT_ONCE] for start in range(0, len(indices), MOST_AT_ONCE))
    images = np.stack([shown(image) for batch in batches for image in stored.images(batch)])
    return content_answer(png(grid(images, min(columns, len(indices)))), asked, "image/png")


@router.get(
    "/datasets/{name}/check",
    response_model=CheckAnswer,
    responses=documented(404, 409, 422, 500, 503) | {200: {"content": _EVENTS}},
)
async def check(
    request: Request,
    services: ServicesHere,
    caller: CallerHere,
    name: Annotated[DatasetName, PathParameter()],
    against: Annotated[DatasetName | None, Query(description="another data set, such as the test split")] = None,
) -> CheckAnswer | Response:
    """Look for repeated, outlying and flat pictures and for unequal classes.

    It takes about a minute for 100,000 images. With `Accept: text/event-stream`, events say how far it is.
    """
    board = ProgressBoard()

    def look() -> CheckAnswer:
        with services.transaction() as session:
            row = get_dataset(session, name, caller.owner)
            with at("against", DatasetNotFound):
                other = None if against is None else get_dataset(session, against, caller.owner)
        return checked(services.store, services.settings, row, other, board.write)

    if wants_events(request, services):
        return progress_events(_in_decoder(look, board), board)
    return await _in_decoder(look, board)


@router.patch(
    "/datasets/{name}",
    dependencies=[Depends(require_json)],
    responses=documented(400, 404, 409, 413, 415, 422, 500, 503),
)
def change(
    body: DatasetChanges, services: ServicesHere, caller: CallerHere, name: Annotated[DatasetName, PathParameter()]
) -> DatasetAnswer:
    """Rename a data set, share it with all keys, or mark it to be kept. Its jobs keep a renamed one."""
    with services.transaction() as session:
        row = lock_dataset(session, name, caller.owner)
        if "shared" in body.model_fields_set:
            row.api_key_id = None
            record(session, caller.actor, "dataset.shared", f"datasets/{name}")
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
        delete_dataset(session, caller.actor, name, force=force and not dry_run, owner=caller.owner)

    return delete(services, dry_run, work)
