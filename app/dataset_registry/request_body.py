"""Reads the two forms of POST /datasets: an uploaded archive, or JSON that names a path."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import Scope

from darkroom.app.dataset_registry.schemas import (
    BUNDLED_FORMATS,
    PathBody,
    UploadQuery,
)
from darkroom.app.http.problems import Problem, invalid
from darkroom.app.http.upload import media_type, received, require_file_itself
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig
from darkroom.model.digest import digest_of
from darkroom.model.extension_points import FORMATS

log = logging.getLogger(__name__)

T = TypeVar("T")


def is_upload(scope: Scope) -> bool:
    """Return true if the request's body is an archive, which may be larger than other bodies."""
    if scope["method"] != "POST" or scope["path"] != "/v1/datasets":
        return False
    return not is_json(Headers(scope=scope).get("content-type", ""))


def is_json(content_type: str) -> bool:
    kind = media_type(content_type)
    return kind == "application/json" or kind.endswith("+json")


@dataclass(frozen=True)
class Registration:
    """A validated request. file: the uploaded archive; None when the request names a path.

    digest: of the request's fields and the archive; equal for equal requests.
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


async def read_upload(request: Request) -> Registration:
    require_file_itself(request)
    query: dict[str, Any] = dict(request.query_params)
    if "class_names" in query:
        query["class_names"] = request.query_params.getlist("class_names")
    fields = _validated(lambda: UploadQuery.model_validate(query), "query", None)
    file, digest = await received(request)
    config = _configuration(fields, Path(f"/dev/fd/{file.fileno()}"))
    return Registration(fields.name, config, _request_digest(fields, digest), file)


async def read_path(request: Request, settings: Settings) -> Registration:
    raw = await request.body()
    try:
        body = from_json(raw)
    except ValueError as error:
        raise Problem(400, "not-json", f"the body is not JSON: {error}") from error
    fields = _validated(lambda: PathBody.model_validate_json(raw, strict=True), "body", body)
    if request.query_params:
        raise invalid([(name, "must be in the JSON body, not in the query") for name in request.query_params])
    path = None if fields.path is None else allowed(Path(fields.path), allowed_roots(settings))
    if (path is None) != FORMATS[fields.format].bundled:
        raise invalid([("/path", f"must be left out for {BUNDLED_FORMATS}, and given for every other format")])
    return Registration(fields.name, _configuration(fields, path), _request_digest(fields))


def allowed(path: Path, roots: Sequence[Path]) -> Path:
    """Return the path with links resolved. Raises Problem unless it is below one of `roots`, themselves resolved."""
    try:
        resolved = path.resolve()
        if path.is_absolute() and any(resolved.is_relative_to(root) for root in roots):
            return resolved
    except (OSError, RuntimeError):  # links in a circle
        log.info("refused a path that cannot be resolved", exc_info=True)
    folders = ", ".join(map(str, roots)) or "none"
    raise invalid([("/path", f"{path} is not an absolute path below a folder that the operator allows: {folders}")])


def allowed_roots(settings: Settings) -> list[Path]:
    return [root.resolve() for root in settings.dataset_roots]
