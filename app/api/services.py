"""What the routers share: the engine, the catalog and the rest, made once at start-up."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.problems import Problem
from app.catalog import Catalog
from app.engine.engine import Engine
from app.metrics import Metrics
from app.settings import Settings
from store.database import Database


@dataclass(frozen=True)
class Services:
    """The parts of a running service. database: None when no DATABASE_URL is set."""

    settings: Settings
    engine: Engine
    catalog: Catalog
    metrics: Metrics
    database: Database | None


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def require_json(request: Request) -> None:
    """Refuse a body that does not say it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported-media-type", "send the body as Content-Type: application/json")


ServicesHere = Annotated[Services, Depends(_services)]
