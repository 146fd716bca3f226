"""GET /models: what is in the store and what the engine holds."""

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from app.api.problems import Problem, documented
from app.api.services import Services, ServicesHere
from model.config import SamplingConfig
from store.checkpoint_repository import list_checkpoints
from store.database import Database
from store.model_repository import ModelNotFound, ModelPage, ModelSummary, get_model, list_models
from store.tables import Checkpoint

router = APIRouter(tags=["models"])


class AliasAnswer(BaseModel):
    """What an alias points at."""

    version: int
    digest: str


class VersionAnswer(BaseModel):
    """One version of a model."""

    version: int
    digest: str
    source: str
    created_at: datetime
    size_bytes: int
    images_seen: int
    metrics: dict[str, float]
    resident: bool = Field(description="in the engine's memory now")


class ModelAnswer(BaseModel):
    """A model. default_sampling and class_names: of its production version where that has been loaded."""

    name: str
    created_at: datetime
    versions: int
    aliases: dict[str, AliasAnswer]
    resident: list[str] = Field(description="digests of its versions in the engine's memory")
    class_names: list[str] | None = None
    default_sampling: SamplingConfig | None = None


class ModelDetailAnswer(ModelAnswer):
    """A model with its newest versions."""

    newest: list[VersionAnswer]


class ModelsAnswer(BaseModel):
    """One page of models."""

    models: list[ModelAnswer]
    next_after: str | None = Field(description="pass as `after` for the next page; null on the last")


def _database(services: Services) -> Database:
    if services.database is None:
        raise Problem(503, "store-unavailable", "the service was started without DATABASE_URL")
    return services.database


def _describe(services: Services, model: ModelSummary) -> ModelAnswer:
    resident = services.engine.snapshot().resident
    production = services.catalog.production(model.name)
    return ModelAnswer(
        name=model.name,
        created_at=model.created_at,
        versions=model.versions,
        aliases={
            alias: AliasAnswer(version=target.version, digest=target.digest) for alias, target in model.aliases.items()
        },
        resident=[digest for digest in services.catalog.digests(model.name) if digest in resident],
        class_names=list(production.header.class_names) if production else None,
        default_sampling=production.header.sampling if production else None,
    )


@router.get("/models", responses=documented(422, 500, 503))
async def models(
    services: ServicesHere,
    after: Annotated[
        str | None, Query(max_length=63, pattern=r"^[^\x00]*$", description="the last name of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ModelsAnswer:
    """Models by name."""
    database = _database(services)

    def read() -> ModelPage:
        with database.session() as session:
            return list_models(session, after, limit)

    page = await asyncio.to_thread(read)
    return ModelsAnswer(models=[_describe(services, model) for model in page.models], next_after=page.next_after)


@router.get("/models/{name}", responses=documented(404, 422, 500, 503))
async def model(
    services: ServicesHere, name: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
) -> ModelDetailAnswer:
    """One model and its fifty newest versions."""
    database = _database(services)

    def read() -> tuple[ModelSummary, tuple[Checkpoint, ...]]:
        with database.session() as session:
            return get_model(session, name), list_checkpoints(session, name)

    try:
        summary, checkpoints = await asyncio.to_thread(read)
    except ModelNotFound as error:
        raise Problem(404, "no-such-model", str(error)) from error
    resident = services.engine.snapshot().resident
    newest = [
        VersionAnswer(
            version=row.version,
            digest=row.digest,
            source=row.source,
            created_at=row.created_at,
            size_bytes=row.size_bytes,
            images_seen=row.images_seen,
            metrics=row.metrics,
            resident=row.digest in resident,
        )
        for row in checkpoints
    ]
    return ModelDetailAnswer(**_describe(services, summary).model_dump(), newest=newest)
