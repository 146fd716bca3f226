"""Helpers for tests of training over HTTP: a data set, a small recipe, and a worker's writes without a worker."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.orm import Session

from darkroom.app.settings import REPOSITORY
from darkroom.model.config import Recipe, load_recipe
from darkroom.model.figure import Figure
from darkroom.model.planning.scaled_speed import Rate
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.dataset_repository import DatasetFacts, register_dataset
from darkroom.store.job_repository import Claimant, Failure, Lease, claim_job, fail, hold, stop, succeed
from darkroom.store.run_repository import record_checkpoint, record_curve_points, record_evaluations
from darkroom.store.tables import Job
from darkroom.store.worker_repository import see_worker
from tests.app.served import Service, serving

WORKER = Claimant("worker", "cpu")
SHAPES = DatasetFacts("zip", "sha256:" + "5" * 64, ("circle", "square"), (60, 40), 1, 8)


def add_dataset(database: Database, name: str = "shapes", facts: DatasetFacts = SHAPES) -> None:
    """Register a data set whose bytes no test reads."""
    with database.session() as session:
        register_dataset(session, name, facts, BytesIO(name.encode()), b"picture")


def rates(images_per_second: float) -> list[Rate]:
    """Return the measurements of a worker that trains a network of 1e8 operations at this speed, in float32."""
    return [Rate(precision="float32", operations=1e8, values=1e6, batch_size=128, images_per_second=images_per_second)]


def see_measured(
    database: Database,
    name: str,
    images_per_second: float = 50.0,
    device: str = "cpu",
    devices: int = 1,
    lacks: Mapping[str, str] | None = None,
) -> None:
    """Record a beat of a worker that has measured its speed."""
    measured = [one.model_dump(mode="json") for one in rates(images_per_second)]
    with database.session() as session:
        see_worker(session, name, device, devices, None, measured, lacks)


def configuration() -> dict[str, Any]:
    """Return the digits recipe as a request contains it: without name and data set."""
    recipe: Recipe = load_recipe(REPOSITORY / "recipes" / "digits.yaml")
    return recipe.model_dump(mode="json", exclude={"name", "dataset"})


def claim(database: Database) -> Lease:
    """Claim the next job as a worker does."""
    with database.session() as session:
        job = claim_job(session, WORKER, 600.0)
        assert job is not None
        return Lease(job.id, job.attempt)


@contextmanager
def holding(database: Database, lease: Lease) -> Iterator[tuple[Session, Job]]:
    """Yield the session and the job's record for a worker's write."""
    with database.session() as session:
        yield session, hold(session, lease)


def metrics(database: Database, lease: Lease, images_seen: int, loss: float = 0.5, speed: float = 100.0) -> None:
    """Write a curve point."""
    with holding(database, lease) as (session, job):
        record_curve_points(session, job, [CurvePoint(images_seen, loss, 1.0, 1e-3, speed, 1000)])


def checkpoint(
    database: Database,
    lease: Lease,
    images_seen: int,
    figures: Mapping[str, float] | None = None,
    weights: bytes | None = None,
) -> None:
    """Save a checkpoint with its state and its figures. weights: a weights file; default: bytes that no test reads."""
    with holding(database, lease) as (session, job):
        recipe = job.configuration["recipe"]
        record_checkpoint(
            session,
            job,
            images_seen,
            weights=weights or f"weights {job.id} {images_seen}".encode(),
            state_digest=Artifacts(session).put(f"state {job.id} {images_seen}".encode()),
            configuration=recipe["model"],
            class_names=["circle", "square"],
            keep_last=job.configuration["keep_last"],
        )
        measured = [Figure(metric, value, {"images": 100}, 1.5) for metric, value in (figures or {}).items()]
        record_evaluations(session, job, images_seen, measured)


def end(database: Database, lease: Lease, how: Callable[[Session, Lease], object] = succeed) -> None:
    """End the attempt."""
    with database.session() as session:
        how(session, lease)


def broken(session: Session, lease: Lease) -> None:
    """Return a failure that is not retried."""
    fail(session, lease, Failure("broken", "it broke; mend it"))


def killed(session: Session, lease: Lease) -> None:
    """Return the failure of a worker that did not stop in time."""
    stop(session, lease, Failure("stopped_late", "the work was killed; it has no checkpoint"))


@contextmanager
def serving_jobs(folder: Path, database_url: str, **settings: Any) -> Iterator[Service]:
    """Run the service with the data set `shapes` and no models. It checks that every answer's status is documented."""
    database = Database(database_url)
    add_dataset(database)
    database.dispose()
    with serving(folder, wait_until_ready=False, database_url=database_url, **settings) as service:
        paths = service.client.get("/openapi.json").json()["paths"]
        routes = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): methods for path, methods in paths.items()}

        def check(answer: httpx.Response) -> None:
            path, method = answer.request.url.path, answer.request.method.lower()
            if path == "/openapi.json":
                return
            (methods,) = (methods for pattern, methods in routes.items() if pattern.fullmatch(path))
            described = methods[method]["responses"][str(answer.status_code)]
            if answer.status_code in (204, 304):
                return
            assert answer.headers["content-type"].partition(";")[0] in described["content"]

        service.client.event_hooks = {"response": [check]}
        yield service
