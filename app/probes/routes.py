"""Routes for monitoring: liveness, readiness and Prometheus metrics."""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from darkroom.app.dependencies.services import ServicesHere
from darkroom.app.http.problems import NOT_READY, Problem, documented, retry_after

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The answer of a probe."""

    status: str


class Readiness(Health):
    """The answer of the readiness probe."""

    set_aside: int = Field(description="versions that ended a process while it loaded them; the log names each")


@router.get("/healthz", responses=documented(503))
async def healthz(services: ServicesHere) -> Health:
    """Report that the process answers and its engine runs. On 503, restart the process."""
    if not services.engine.alive:
        raise Problem(503, "engine-failed", "the engine has ended: find the cause in the log, and restart the service")
    return Health(status="alive")


@router.get("/readyz", responses=documented(503))
async def readyz(services: ServicesHere) -> Readiness:
    """Report that a model is loaded and warm, so that the service can answer POST /generate."""
    engine = services.engine
    if not (services.catalog.ready and engine.alive and engine.status().resident):
        raise Problem(503, "not-ready", "no model is loaded and warm yet", headers=retry_after(1.0) | NOT_READY)
    return Readiness(status="ready", set_aside=services.catalog.set_aside)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(services: ServicesHere) -> Response:
    """Return the Prometheus metrics."""
    return Response(generate_latest(services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
