"""/models: lists models and versions, and moves aliases (promotion, roll-back)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from sqlalchemy.orm import Session

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.deletion import DryRun, delete, deletion_answers
from darkroom.app.dependencies.paging import Limit
from darkroom.app.dependencies.services import Services, ServicesHere, require_json
from darkroom.app.exceptions import at
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.problems import Problem, documented
from darkroom.app.model_registry.schemas import (
    LARGEST_VERSION,
    AliasRequest,
    ModelAnswer,
    ModelDetailAnswer,
    ModelName,
    ModelsAnswer,
    ShareRequest,
)
from darkroom.app.model_registry.service import describe_versions, require_readable
from darkroom.store.aliases import remove_alias, set_alias
from darkroom.store.audit_repository import record
from darkroom.store.checkpoint_repository import list_checkpoints
from darkroom.store.deletion import delete_model
from darkroom.store.model_repository import (
    PRODUCTION,
    ModelSummary,
    VersionCollected,
    VersionNotFound,
    find_model,
    get_model,
    list_models,
    lock_model,
)
from darkroom.store.owners import Owner, is_owned

router = APIRouter(tags=["models"])

AliasName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9._-]{0,62}$")]


def _describe(services: Services, model: ModelSummary) -> ModelAnswer:
    resident = services.engine.status().resident
    production = services.catalog.production(model.name)
    return ModelAnswer(
        name=model.name,
        created_at=model.created_at,
        versions=model.versions,
        aliases=model.aliases,
        resident=[digest for digest in services.catalog.digests(model.name) if digest in resident],
        class_names=list(production.header.class_names) if production else None,
        default_sampling=production.header.sampling if production else None,
        snapshot_images=production.header.snapshot.images_seen if production and production.header.snapshot else None,
    )


def _detail(
    services: Services, name: str, owner: Owner | None, before: int | None = None, limit: int = 50
) -> ModelDetailAnswer:
    """Return the answer about a model. It lists only the production version of another owner's model."""
    with services.transaction() as session:
        summary = get_model(session, name)
        if is_owned(session, find_model(session, name), owner):
            checkpoints = list_checkpoints(session, name, before, limit + 1)
        else:
            checkpoints = (require_readable(session, name, PRODUCTION, owner),)
        page = checkpoints[:limit]
        newest = describe_versions(session, services, page)
    return ModelDetailAnswer(
        **_describe(services, summary).model_dump(),
        newest=newest,
        next_before=page[-1].version if len(checkpoints) > limit else None,
    )


@router.get("/models", responses=documented(422, 500, 503))
def models(
    services: ServicesHere,
    caller: CallerHere,
    after: Annotated[
        str | None, Query(max_length=63, pattern=r"^[^\x00]*$", description="the last name of the previous page")
    ] = None,
    limit: Limit = 50,
) -> ModelsAnswer:
    """Models by name: those that the caller may use, and those with a version in production."""
    with services.transaction() as session:
        page = list_models(session, after, limit, caller.owner)
    return ModelsAnswer(
        models=[_describe(services, model) for model in page.models],
        default_model=services.catalog.default,
        request_images=services.settings.request_rows,
        next_after=page.next_after,
    )


@router.get("/models/{name}", responses=documented(404, 422, 500, 503))
def model(
    services: ServicesHere,
    caller: CallerHere,
    name: ModelName,
    before: Annotated[
        int | None, DIGITS, Query(ge=1, le=LARGEST_VERSION, description="the last version of the previous page")
    ] = None,
    limit: Limit = 50,
) -> ModelDetailAnswer:
    """One model and its newest versions."""
    return _detail(services, name, caller.owner, before, limit)


@router.patch(
    "/models/{name}",
    dependencies=[Depends(require_json)],
    responses=documented(400, 404, 413, 415, 422, 500, 503),
)
def share(body: ShareRequest, services: ServicesHere, caller: CallerHere, name: ModelName) -> ModelDetailAnswer:
    """Share a model with all keys. It belongs to nobody then, and the next job may train it under any key."""
    with services.transaction() as session:
        lock_model(session, name).api_key_id = None
        record(session, caller.actor, "model.shared", f"models/{name}")
    return _detail(services, name, caller.owner)


@router.delete(
    "/models/{name}",
    status_code=204,
    response_class=Response,
    responses=deletion_answers(),
)
async def remove(
    services: ServicesHere,
    caller: CallerHere,
    name: ModelName,
    force: Annotated[bool, Query(description="delete it even if aliases, ended jobs or results hang on it")] = False,
    dry_run: DryRun = False,
) -> Response:
    """Delete a model with all its versions, figures and aliases. Its bytes are freed within hours.

    If something uses it, the answer is 409, and `dependents` lists that. Unfinished jobs and marks prevent the
    deletion. With `force`, the jobs that trained it stay without their checkpoints and states, and generate jobs that
    drew with it are deleted with their results. A model that ships with the service comes back at the next start,
    until its file is removed.
    """
    digests: list[str] = []

    def work(session: Session) -> None:
        digests.extend(delete_model(session, caller.actor, name, force=force and not dry_run))

    answer = await run_in_threadpool(delete, services, dry_run, work)
    if not dry_run:
        services.catalog.forget(name, digests)
    return answer


@router.put(
    "/models/{name}/alias/{alias}",
    dependencies=[Depends(require_json)],
    responses=documented(400, 404, 410, 413, 415, 422, 500, 503),
)
async def put_alias(
    body: AliasRequest, services: ServicesHere, caller: CallerHere, name: ModelName, alias: AliasName
) -> ModelDetailAnswer:
    """Point an alias at a version. The alias `production` serves the requests that name no version.

    The engine loads and warms the version before it becomes production, so no request waits or fails. Running requests
    finish on the version that they began with. To roll back, make the same call with the former version.
    """
    database, version = services.store, str(body.version)

    def point() -> None:
        with database.session() as session:
            set_alias(session, caller.actor, name, alias, version)

    with at("/version", VersionNotFound, VersionCollected):
        if alias == PRODUCTION:
            await services.catalog.promote(caller.actor, name, version)
        else:
            await run_in_threadpool(point)
    return await run_in_threadpool(_detail, services, name, caller.owner)


@router.delete(
    "/models/{name}/alias/{alias}",
    status_code=204,
    response_class=Response,
    responses=documented(404, 409, 422, 500, 503),
)
def delete_alias(services: ServicesHere, caller: CallerHere, name: ModelName, alias: AliasName) -> Response:
    """Delete an alias; the version stays. The alias `production` can be moved, but not deleted."""
    if alias == PRODUCTION:
        raise Problem(409, "production-needed", "production cannot be deleted; point it at another version")
    with services.transaction() as session:
        remove_alias(session, caller.actor, name, alias)
    return Response(status_code=204)
