"""/datasets: labelled images, uploaded as an archive or registered where the workers see them."""

import asyncio
import errno
import hashlib
import json
import logging
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO, Literal, TypeVar
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from darkroom.app.api.callers import CallerHere
from darkroom.app.api.idempotency import IdempotencyKey
from darkroom.app.api.paging import Limit
from darkroom.app.api.problems import Problem, documented, invalid
from darkroom.app.api.services import ServicesHere
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig, DatasetFormat, UploadFormat
from darkroom.model.datasets import DatasetError
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.encoded import encode
from darkroom.model.datasets.load import dataset_files, decode_dataset
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.digest import digest_of
from darkroom.model.registry import FORMATS
from darkroom.store.audit_repository import Actor, record
from darkroom.store.database import Database
from darkroom.store.dataset_repository import (
    DatasetFacts,
    Registered,
    contact_sheet_bytes,
    get_dataset,
    get_dataset_by_id,
    list_datasets,
    register_dataset,
)
from darkroom.store.idempotency import remember, settle
from darkroom.store.tables import Dataset

log = logging.getLogger(__name__)

router = APIRouter(tags=["datasets"])

SCOPE = "POST /datasets"
_WRITE_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_decoder = ThreadPoolExecutor(1, thread_name_prefix="dataset")
"""One data set at a time is decoded: it may fill gigabytes, and the engine wants the other cores."""

T = TypeVar("T")


def _plain_name(name: str) -> str:
    """The name in Unicode's composed form, so that what looks equal is equal; raises ValueError."""
    name = unicodedata.normalize("NFC", name)
    if len(name) > 100:
        raise ValueError("at most 100 characters")
    if name != name.strip():
        raise ValueError("no space at its ends")
    if name in (".", "..") or any(character in "/\\" for character in name):
        raise ValueError("a name and no path: without / and \\")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ValueError("no control characters")
    return name


DatasetName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_plain_name)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: DatasetName = Field(description="1 to 100 characters of any script, without / and \\; unique")
    split: Literal["train", "test", "all"] = Field("train", description="all: the train split, then the test split")
    image_size: int | None = Field(
        None, ge=4, le=1024, description="resize (and centre-crop) to this side; needed where sizes differ"
    )
    class_names: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None = Field(
        None, max_length=10_000, description="names for formats that carry none"
    )


_UPLOADS = {name: one.upload for name, one in FORMATS.items() if one.upload is not None}
_BUNDLED = ", ".join(name for name, one in FORMATS.items() if one.bundled)


def _uploads_told() -> str:
    """What an upload of each format is; formats beside each other of which the same is said share it."""
    groups = [(text, list(names)) for text, names in groupby(_UPLOADS, key=_UPLOADS.__getitem__)]
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in groups)


class UploadQuery(_Fields):
    """The query of an upload; the body is the archive."""

    format: UploadFormat = Field(description=_uploads_told())


class PathBody(_Fields):
    """A data set where the workers see it."""

    format: DatasetFormat
    path: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        pattern=r"^[^\x00]*$",
        description=f"absolute path of a file or folder, below one that the operator allows; none for {_BUNDLED}",
    )


class ClassAnswer(BaseModel):
    """One class."""

    name: str
    images: int


class DatasetAnswer(BaseModel):
    """A registered data set."""

    name: str
    format: str
    source: Literal["upload", "path"]
    path: str | None = Field(description="where it is read from, if it is a path")
    digest: str = Field(description="of the decoded content, whatever form it came in")
    classes: list[ClassAnswer]
    images: int
    image_shape: tuple[int, int, int] = Field(description="channels, height, width")
    size_bytes: int = Field(description="of the decoded images")
    contact_sheet: str = Field(description="address of a PNG with the first images of each class, a row a class")
    created_at: datetime


class DatasetsAnswer(BaseModel):
    """One page of data sets."""

    datasets: list[DatasetAnswer]
    next_after: str | None = Field(description="pass as `after` for the next page; null on the last")


def is_upload(scope: Scope) -> bool:
    """Whether the request's body is an archive, which may be larger than other bodies."""
    if scope["method"] != "POST" or scope["path"] != "/v1/datasets":
        return False
    return not _is_json(Headers(scope=scope).get("content-type", ""))


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(content_type: str) -> bool:
    kind = _media_type(content_type)
    return kind == "application/json" or kind.endswith("+json")


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
        created_at=row.created_at,
    )


@dataclass(frozen=True)
class _Registration:
    """A request made ready. file: the uploaded archive; None when the configuration's path is registered.

    digest: of all that decides what is registered.
    """

    name: str
    config: DatasetConfig
    digest: str
    file: BinaryIO | None = None


def _validated(validate: Callable[[], T], where: Literal["query", "body"], body: object) -> T:
    try:
        return validate()
    except ValidationError as error:
        faults = [fault | {"loc": (where, *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults, body=body) from error


def _configuration(fields: UploadQuery | PathBody, path: Path | None) -> DatasetConfig:
    return DatasetConfig(
        format=fields.format,
        path=path,
        split=fields.split,
        image_size=fields.image_size,
        class_names=fields.class_names,
    )


def _request_digest(fields: BaseModel, *more: str) -> str:
    text = json.dumps([fields.model_dump(mode="json"), *more], sort_keys=True)
    return digest_of(text.encode())


@contextmanager
def _room_for_files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        log.error("no room for a data set: %s", error)
        raise Problem(507, "storage-full", "the service has no room left for this data set") from error


async def _received(request: Request, fields: UploadQuery) -> _Registration:
    """The upload in a file without a name, which is gone even when this process is killed."""
    with _room_for_files(), ExitStack() as until_handed_over:
        file = until_handed_over.enter_context(TemporaryFile())
        hasher, waiting = hashlib.sha256(), bytearray()
        try:
            async for chunk in request.stream():
                hasher.update(chunk)
                waiting += chunk
                if len(waiting) >= _WRITE_BYTES:
                    await asyncio.to_thread(file.write, bytes(waiting))
                    waiting.clear()
        except ClientDisconnect as error:
            raise Problem(400, "client-closed-request", "the client left") from error  # for logs and metrics
        file.write(waiting)
        file.flush()
        until_handed_over.pop_all()
    config = _configuration(fields, Path(f"/dev/fd/{file.fileno()}"))
    return _Registration(fields.name, config, _request_digest(fields, hasher.hexdigest()), file)


async def _upload(request: Request) -> _Registration:
    if _media_type(request.headers.get("content-type", "")) == "multipart/form-data":
        detail = "the body is the archive itself and no form: curl --data-binary @FILE"
        raise Problem(415, "unsupported-media-type", detail)
    query: dict[str, Any] = dict(request.query_params)
    if "class_names" in query:
        query["class_names"] = request.query_params.getlist("class_names")
    return await _received(request, _validated(lambda: UploadQuery.model_validate(query), "query", None))


async def _path(request: Request, settings: Settings) -> _Registration:
    raw = await request.body()
    try:
        body = from_json(raw)
    except ValueError as error:
        raise Problem(400, "not-json", f"the body is not JSON: {error}") from error
    fields = _validated(lambda: PathBody.model_validate_json(raw, strict=True), "body", body)
    if request.query_params:
        raise invalid([(name, "goes into the JSON body") for name in request.query_params])
    path = None if fields.path is None else _allowed(Path(fields.path), _roots(settings))
    if (path is None) != FORMATS[fields.format].bundled:
        raise invalid([("/path", f"the {_BUNDLED} have none, every other format has one")])
    return _Registration(fields.name, _configuration(fields, path), _request_digest(fields))


def _allowed(path: Path, roots: Sequence[Path]) -> Path:
    """The path without links; raises Problem when it is not below a root. roots: without links."""
    try:
        resolved = path.resolve()
        if path.is_absolute() and any(resolved.is_relative_to(root) for root in roots):
            return resolved
    except (OSError, RuntimeError):  # links in a circle
        log.info("a path that cannot be resolved was refused", exc_info=True)
    raise invalid([("/path", f"{path} is no absolute path below one of: {', '.join(map(str, roots)) or 'none'}")])


def _roots(settings: Settings) -> list[Path]:
    return [root.resolve() for root in settings.dataset_roots]


def _decoded(wanted: _Registration, settings: Settings) -> Decoded:
    try:
        if wanted.file is None:
            roots = _roots(settings)
            for file in dataset_files(wanted.config):
                _allowed(file, roots)  # a folder may hold links that lead out of it
        return decode_dataset(wanted.config, ArchiveLimits(entries=settings.dataset_entries))
    except DatasetError as error:
        text = str(error)
        if wanted.file is not None:
            text = text.replace(str(wanted.config.path), "the archive")
        raise Problem(422, "dataset-unreadable", text) from error


def _facts(wanted: _Registration, decoded: Decoded, digest: str) -> DatasetFacts:
    counts = np.bincount(decoded.labels, minlength=len(decoded.class_names))
    return DatasetFacts(
        format=wanted.config.format,
        digest=digest,
        class_names=decoded.class_names,
        class_counts=[int(count) for count in counts],
        image_channels=decoded.images.shape[1],
        image_size=decoded.images.shape[2],
    )


def _register(
    database: Database, settings: Settings, wanted: _Registration, actor: Actor, key: str | None
) -> Registered:
    """Decode and store; what is new is committed as a whole. Closes the uploaded file."""
    with _room_for_files():
        if wanted.file is None:
            decoded = _decoded(wanted, settings)
            digest = content_digest(decoded.images, decoded.labels, decoded.class_names)
            return _store(database, wanted, actor, key, _facts(wanted, decoded, digest), wanted.config, decoded)
        with TemporaryFile() as encoded:
            with wanted.file:
                decoded = _decoded(wanted, settings)
            digest = encode(decoded, encoded)
            return _store(database, wanted, actor, key, _facts(wanted, decoded, digest), encoded, decoded)


def _store(
    database: Database,
    wanted: _Registration,
    actor: Actor,
    key: str | None,
    facts: DatasetFacts,
    source: BinaryIO | DatasetConfig,
    decoded: Decoded,
) -> Registered:
    sheet = contact_sheet(decoded)
    with database.session() as session:
        if key is not None:
            known = remember(session, SCOPE, key, wanted.digest)
            if known is not None:
                return Registered(get_dataset_by_id(session, known), created=False)
        registered = register_dataset(session, wanted.name, facts, source, sheet)
        if key is not None:
            settle(session, SCOPE, key, registered.dataset.id)
        if registered.created:
            told = {"format": facts.format, "digest": facts.digest, "images": registered.dataset.image_count}
            record(session, actor, "dataset.registered", f"datasets/{wanted.name}", told)
        return registered


def _connect(database: Database) -> None:
    with database.session() as session:
        session.connection()


def _parameters(query: type[BaseModel]) -> list[Mapping[str, Any]]:
    schema = query.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": described,
            "description": described.pop("description", "")
            + (" (of an upload: required)" * (name in schema["required"])),
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
    | {200: {"model": DatasetAnswer, "description": "It was there already"}},
)
async def register(
    request: Request,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    idempotency_key: IdempotencyKey = None,
) -> DatasetAnswer:
    """Register a data set: upload an archive, or name a path that the workers see.

    **Upload**: the body is the archive, the query says what it is:
    `curl --data-binary @clothes.zip 'http://HOST/v1/datasets?name=clothes&format=zip'`.
    **Path**: the body is JSON (`Content-Type: application/json`) with the same fields and `path`; no query.

    The same name with the same content again answers 200 with what is there; with other content 409.
    """
    database = services.store
    by_path = _is_json(request.headers.get("content-type", ""))
    await run_in_threadpool(_connect, database)  # before somebody sends gigabytes for nothing
    wanted = await (_path(request, services.settings) if by_path else _upload(request))
    loop = asyncio.get_running_loop()
    registered = await loop.run_in_executor(
        _decoder, _register, database, services.settings, wanted, caller.actor, idempotency_key
    )
    response.status_code = 201 if registered.created else 200
    response.headers["Location"] = _address(registered.dataset.name)
    return _describe(registered.dataset)


@router.get("/datasets", responses=documented(422, 500, 503))
def datasets(
    services: ServicesHere,
    after: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="the last name of the page before")
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
    """A PNG with the first images of each class, a row a class."""
    with services.transaction() as session:
        picture = contact_sheet_bytes(session, get_dataset(session, name))
    return Response(picture, media_type="image/png")
