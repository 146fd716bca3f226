"""/models/NAME/versions: shows a version, downloads its weights, adds and deletes versions."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from sqlalchemy.orm import Session
from starlette.types import Scope

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.deletion import DryRun, KeepRequest, delete, deletion_answers
from darkroom.app.dependencies.services import ServicesHere, require_json
from darkroom.app.http.file_answer import FileRequestHere, artifact_answer, documented_file
from darkroom.app.http.problems import documented
from darkroom.app.http.upload import received, require_file_itself
from darkroom.app.model_registry.schemas import ModelName, VersionAnswer, VersionDetailAnswer
from darkroom.app.model_registry.service import add_version, describe_version, describe_versions
from darkroom.store.audit_repository import record
from darkroom.store.deletion import delete_version
from darkroom.store.model_repository import lock_model, resolve_kept
from darkroom.store.owners import require_owned

router = APIRouter(tags=["models"])

VersionName = Annotated[
    str,
    Path(
        pattern=r"^([1-9][0-9]{0,9}|sha256:[0-9a-f]{64}|[a-z][a-z0-9._-]{0,62})$",
        description="a version's number, its digest, or an alias",
    ),
]

_MEDIA_TYPE = "application/octet-stream"
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}

_checker = ThreadPoolExecutor(1, thread_name_prefix="weights")
"""Checks one weights file at a time: each takes several times its size of memory."""


def is_weights_upload(scope: Scope) -> bool:
    """Return true if the request's body is a weights file, which may be larger than other bodies."""
    match scope["path"].split("/"):
        case ["", "v1", "models", _, "versions"]:
            return bool(scope["method"] == "POST")
    return False


@router.post(
    "/models/{name}/versions",
    status_code=201,
    openapi_extra=_UPLOAD,
    responses=documented(400, 413, 415, 422, 500, 503, 507)
    | {200: {"model": VersionAnswer, "description": "The model has these weights already"}},
)
async def add(
    request: Request, response: Response, services: ServicesHere, caller: CallerHere, name: ModelName
) -> VersionAnswer:
    """Add a weights file as a version of a model, which is created if it is new. The body is the file:
    `curl --data-binary @fashion-mnist.safetensors http://HOST/v1/models/clothes/versions`.

    It is a safetensors file that `darkroom train` or another service has written. The service draws an image with it
    before it stores it. `errors` point into the file's header. If the model has no production version, this becomes it.
    """
    require_file_itself(request)
    await run_in_threadpool(services.require_database)
    file, _ = await received(request)
    loop = asyncio.get_running_loop()
    version, created = await loop.run_in_executor(_checker, add_version, services, caller.actor, name, file)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/models/{name}/versions/{version.version}"
    return version


@router.get("/models/{name}/versions/{version}", responses=documented(404, 422, 500, 503))
def show(services: ServicesHere, caller: CallerHere, name: ModelName, version: VersionName) -> VersionDetailAnswer:
    """One version of a model, with its images' size, the number of its parameters, its settings and its recipe."""
    return describe_version(services, name, version, caller.owner)


@router.get(
    "/models/{name}/versions/{version}/weights",
    response_class=Response,
    responses=documented(404, 410, 422, 500, 503) | documented_file("The weights file", _MEDIA_TYPE),
)
def weights(
    services: ServicesHere, caller: CallerHere, asked: FileRequestHere, name: ModelName, version: VersionName
) -> Response:
    """The version's weights as a safetensors file, which carries its configuration; `ETag` is its digest.

    The service checks the bytes while it sends them. If they are damaged, it breaks the connection before the end. It
    does not check a part (`Range`): compare the SHA-256 of all parts with `ETag`.
    """
    with services.transaction() as session:
        row = resolve_kept(session, name, version)
        require_owned(session, row.model, caller.owner)
        filename = f"{name}-{row.version}.safetensors"
    return artifact_answer(services.store, row.digest, asked, _MEDIA_TYPE, filename)


@router.patch(
    "/models/{name}/versions/{version}",
    dependencies=[Depends(require_json)],
    responses=documented(400, 404, 410, 413, 415, 422, 500, 503),
)
def change(
    body: KeepRequest, services: ServicesHere, caller: CallerHere, name: ModelName, version: VersionName
) -> VersionAnswer:
    """Mark a version to be kept, or take the mark off.

    While it is set, its weights and training state stay, and so do the curve, log and events of its job.
    """
    with services.transaction() as session:
        lock_model(session, name)
        row = resolve_kept(session, name, version)
        row.keep = body.keep
        record(session, caller.actor, "version.marked", f"models/{name}/versions/{row.version}", {"keep": body.keep})
        return describe_versions(session, services, [row])[0]


@router.delete(
    "/models/{name}/versions/{version}",
    status_code=204,
    response_class=Response,
    responses=deletion_answers(410),
)
async def remove(
    services: ServicesHere,
    caller: CallerHere,
    name: ModelName,
    version: VersionName,
    force: Annotated[
        bool, Query(description="delete it even if aliases, ended jobs or failed generate jobs name it")
    ] = False,
    dry_run: DryRun = False,
) -> Response:
    """Delete a version's weights. Its number, digest and figures stay. Its bytes are freed within hours.

    If something uses it, the answer is 409, and `dependents` lists that. The production version and those of unfinished
    jobs cannot be deleted. `force` also deletes the aliases that point at it. A version that ships with the service
    comes back at the next start, until its file is removed.
    """

    digests: list[str] = []

    def work(session: Session) -> None:
        digests.append(delete_version(session, caller.actor, name, version, force=force and not dry_run).digest)

    answer = await run_in_threadpool(delete, services, dry_run, work)
    if not dry_run:
        services.catalog.forget(name, digests)
    return answer
