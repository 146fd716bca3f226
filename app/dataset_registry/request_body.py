"""Reads the three forms of a registration: an archive, a form with a folder's files, or JSON that names a path."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import Scope

from darkroom.app.dataset_registry.form import received_form
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
    """Return true if the request's body holds images, and so may be larger than other bodies."""
    parts = scope["path"].split("/")
    if (scope["method"], parts[1:3], len(parts)) not in (
        ("POST", ["v1", "datasets"], 3),
        ("PUT", ["v1", "datasets"], 4),
    ):
        return False
    return not is_json(Headers(scope=scope).get("content-type", ""))


def is_json(content_type: str) -> bool:
    kind = media_type(content_type)
    return kind == "application/json" or kind.endswith("+json")


@dataclass(frozen=True)
class Registration:
    """A validated request. file: the uploaded archive; None when the request names a path.

    called: what errors call the uploaded file. replace: other content of this name becomes an earlier version.
    digest: of the request's fields and the archive; equal for equal requests.
    """

    name: str
    config: DatasetConfig
    digest: str
    file: BinaryIO | None = None
    called: str = "the archive"
    replace: bool = False


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
        fit=fields.fit,
        ground=fields.ground,
        skip_damaged=fields.skip_damaged,
        class_names=fields.class_names,
    )


def _request_digest(fields: BaseModel, *more: str) -> str:
    text = json.dumps([fields.model_dump(mode="json"), *more], sort_keys=True)
    return digest_of(text.encode())


async def read_upload(request: Request, settings: Settings, name: str | None = None) -> Registration:
    """Receive an upload. name: of the data set to replace; the query then has none."""
    query: dict[str, Any] = dict(request.query_params)
    if "class_names" in query:
        query["class_names"] = request.query_params.getlist("class_names")
    if name is not None:
        _require_no_name(query, "name")
        query["name"] = name
    is_form = media_type(request.headers.get("content-type", "")) == "multipart/form-data"
    if is_form and "format" not in query:
        fields, file, digest = await _received_form(request, settings, query)
        called = "the folder"
    else:
        called = "the archive"
        require_file_itself(request)
        fields = _validated(lambda: UploadQuery.model_validate(query), "query", None)
        file, digest = await received(request)
    config = _configuration(fields, Path(f"/dev/fd/{file.fileno()}"))
    return Registration(fields.name, config, _request_digest(fields, digest), file, called, name is not None)


async def _received_form(
    request: Request, settings: Settings, query: dict[str, Any]
) -> tuple[UploadQuery, BinaryIO, str]:
    form = await received_form(request, settings.dataset_entries)
    try:
        if "format" in form.fields:
            text = "is left out of a form, which holds the files of a folder; send an archive itself as the body"
            raise invalid([("format", text)])
        given = {key: values if key == "class_names" else values[-1] for key, values in form.fields.items()}
        fields = _validated(lambda: UploadQuery.model_validate({"format": "zip", **given, **query}), "query", None)
    except BaseException:
        form.file.close()
        raise
    return fields, form.file, form.digest


def _require_no_name(fields: Mapping[str, Any], pointer: str) -> None:
    if "name" in fields:
        raise invalid([(pointer, "is in the address of the data set to replace: leave it out here")])


async def read_path(request: Request, settings: Settings, name: str | None = None) -> Registration:
    """Read a request that names a path. name: of the data set to replace; the body then has none."""
    raw = await request.body()
    try:
        body = from_json(raw)
    except ValueError as error:
        raise Problem(400, "not-json", f"the body is not JSON: {error}") from error
    if name is not None and isinstance(body, dict):
        _require_no_name(body, "/name")
        body["name"] = name
        raw = json.dumps(body).encode()
    fields = _validated(lambda: PathBody.model_validate_json(raw, strict=True), "body", body)
    if request.query_params:
        raise invalid([(name, "must be in the JSON body, not in the query") for name in request.query_params])
    path = None if fields.path is None else allowed(Path(fields.path), allowed_roots(settings))
    if (path is None) != FORMATS[fields.format].bundled:
        raise invalid([("/path", f"must be left out for {BUNDLED_FORMATS}, and given for every other format")])
    return Registration(fields.name, _configuration(fields, path), _request_digest(fields), replace=name is not None)


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
