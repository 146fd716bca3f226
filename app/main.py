"""The service. `create_app` makes its parts, `_lifespan` starts and ends them, and uvicorn calls `application`."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import Scope

from darkroom import __version__
from darkroom.app import exceptions
from darkroom.app.access import scopes
from darkroom.app.access.beyond_loopback import require_keys_beyond_loopback
from darkroom.app.access.gate import Gate
from darkroom.app.access.limits import Limits
from darkroom.app.access.open_counts import OpenCounts
from darkroom.app.access.verifier import Verifier
from darkroom.app.api_keys import routes as api_keys
from darkroom.app.audit import routes as audit
from darkroom.app.console import pages
from darkroom.app.dataset_registry import routes as dataset_registry
from darkroom.app.dataset_registry.request_body import is_upload
from darkroom.app.dependencies.known_query import require_known_query
from darkroom.app.dependencies.services import Services
from darkroom.app.description.describe import describe
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.generate_jobs import routes as generate_jobs
from darkroom.app.generation import interpolation, verification
from darkroom.app.generation import routes as generation
from darkroom.app.http import docs, problems
from darkroom.app.http.server_logs import set_up_server_logs
from darkroom.app.http.stop_signals import noticing_stop
from darkroom.app.jobs.feed import JobFeed
from darkroom.app.jobs.hint_sender import HintSender
from darkroom.app.middleware.access_control import AccessControl
from darkroom.app.middleware.body_limit import BodyLimit
from darkroom.app.middleware.drain import LAST_ANSWERS_SECONDS, Drain, Draining
from darkroom.app.middleware.head_as_get import HeadAsGet
from darkroom.app.middleware.read_on import ReadOn
from darkroom.app.middleware.request_cap import RequestCap
from darkroom.app.middleware.request_watch import HEADER, PROBES, RequestWatch
from darkroom.app.middleware.security_headers import SecurityHeaders
from darkroom.app.model_registry import routes as model_registry
from darkroom.app.model_registry import versions
from darkroom.app.model_registry.versions import is_weights_upload
from darkroom.app.monitoring.job_metrics import JobMetrics
from darkroom.app.monitoring.prometheus import PrometheusMetrics
from darkroom.app.plans import routes as plans
from darkroom.app.probes import routes as probes
from darkroom.app.recipes import routes as recipes
from darkroom.app.settings import Settings
from darkroom.app.storage import routes as storage
from darkroom.app.sweeps import routes as sweeps
from darkroom.app.train_jobs import events as train_events
from darkroom.app.train_jobs import records as train_records
from darkroom.app.train_jobs import routes as train_jobs
from darkroom.app.versions.catalog import Catalog
from darkroom.model.machine.device import find_device
from darkroom.model.machine.threads import compute_alone
from darkroom.model.user_error import ending_in_one_line
from darkroom.store.database import Database
from darkroom.store.hints import Hints, broker_answers
from darkroom.store.operator_settings import read_settings
from darkroom.store.places import StorageProbe
from darkroom.telemetry.logs import LogSettings
from darkroom.telemetry.machine import watch_machine
from darkroom.telemetry.reachability import Reachability
from darkroom.telemetry.tracing import TracingMissing, set_up_tracing

log = logging.getLogger(__name__)

HINTS_STOP_SECONDS = 2.0

BATCH_ROWS = {"cpu": 64, "cuda": 256}
"""The most network rows of a step on a device, if the settings do not say."""

DESCRIPTORS = 65536

OTHER_REQUESTS = 1000
"""The most requests at once, besides one for each place of the engine's queue. One caller may have half of them all."""


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("models are no longer loaded or followed; restart the service", exc_info=task.exception())


async def _follow_models(catalog: Catalog, settings: Settings) -> None:
    await catalog.open(settings.weights_folder)
    await catalog.follow(settings.alias_poll_seconds)


def _hint_sender(settings: Settings, database: Database | None) -> HintSender | None:
    if settings.redis_url is None or database is None:
        return None
    return HintSender(Hints(settings.redis_url), database)


def _reachability(settings: Settings, database: Database | None) -> Reachability:
    probes: dict[str, Callable[[], bool]] = {}
    if database is not None:
        probes["database"] = database.answers
    if settings.redis_url is not None:
        probes["broker"] = partial(broker_answers, settings.redis_url)
    if settings.artifacts_url is not None:
        probes["storage"] = StorageProbe(settings.artifacts_url)
    return Reachability(probes)


def _begin_to_drain(loop: asyncio.AbstractEventLoop, app: FastAPI, then: Callable[[], None]) -> None:
    """Drain, from a signal handler. Keeps the task, because the loop itself does not."""

    def begin() -> None:
        app.state.draining = loop.create_task(_drain(app.state.services, app.state.drain, then))

    loop.call_soon_threadsafe(begin)


async def _drain(services: Services, drain: Drain, then: Callable[[], None]) -> None:
    """Refuse new requests, let running ones finish within the drain time, and call `then`, which ends the server."""
    drain.begun = True
    seconds = services.settings.drain_seconds
    log.info("stopping: %d requests have %d s to finish", len(drain.running), seconds)
    try:
        if services.job_feed is not None:
            services.job_feed.close()
        if not await drain.finished(seconds):
            log.warning("ending %d requests that did not finish in %d s", len(drain.running), seconds)
            await asyncio.to_thread(services.engine.stop, 0.0)  # its requests end with an event that says why
            await drain.finished(LAST_ANSWERS_SECONDS)
            await drain.cut()
    finally:
        then()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the parts, serve while models load, and end the parts. At the signal to end, requests finish first."""
    services: Services = app.state.services
    await asyncio.to_thread(require_keys_beyond_loopback, services.settings.host, services.database)
    if services.database is not None:
        # Requests run their transactions in AnyIO's threads. More threads than connections would only wait for one.
        to_thread.current_default_thread_limiter().total_tokens = services.database.pool_use().limit
    services.engine.start()
    if services.hints is not None:
        services.hints.start()
    following = asyncio.create_task(_follow_models(services.catalog, services.settings))
    following.add_done_callback(_log_failure)
    reachability = _reachability(services.settings, services.database)
    services.metrics.registry.register(reachability)
    reachability.start()
    job_metrics = JobMetrics(services.database) if services.database else None
    if job_metrics is not None:
        services.metrics.registry.register(job_metrics)
        job_metrics.start()
    try:
        with noticing_stop(partial(_begin_to_drain, asyncio.get_running_loop(), app)):
            yield
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await following
        reachability.stop()
        if job_metrics is not None:
            job_metrics.stop()
        await asyncio.to_thread(services.engine.stop, 0.0)
        if services.hints is not None:
            await asyncio.to_thread(services.hints.stop, HINTS_STOP_SECONDS)
        await services.gate.close()
        if services.database is not None:
            services.database.dispose()


def _body_limit(settings: Settings, scope: Scope) -> int:
    """Return the most bytes of a request's body. scope: the request's (ASGI)."""
    if is_upload(scope):
        return settings.dataset_limit_bytes
    if scope["path"] == "/v1/verify":
        return verification.MOST_BYTES
    return settings.weights_limit_bytes if is_weights_upload(scope) else settings.body_limit_bytes


def create_app(settings: Settings, on_engine_failure: Callable[[], None] = lambda: None) -> FastAPI:
    """Return the application, not yet started. Raises UserError for settings that this machine cannot fulfil."""
    metrics = PrometheusMetrics()
    watch_machine(metrics.registry, settings.state_folder)
    device = find_device(settings.device, "DARKROOM_DEVICE")
    batch_rows = settings.batch_rows or BATCH_ROWS[device.type]
    limits = EngineLimits(settings.queue_rows, settings.queue_seconds, batch_rows, settings.resident_versions)
    engine = Engine(limits, metrics, on_failure=on_engine_failure)
    compute_alone()
    metrics.watch(engine.status)
    database = settings.database("API", settings.pool()) if settings.database_url else None
    if database is not None:
        metrics.watch_pool(database.pool_use)
    catalog = Catalog(
        engine,
        database,
        device=device,
        default=settings.default_model,
        loading_folder=settings.state_folder / "loading",
    )
    gate = Gate(
        settings,
        Verifier(database, settings.key_cache_seconds, open_after_keys=settings.open_after_keys) if database else None,
        Limits(settings.redis_url, counted_alone=metrics.counted_alone),
        Limits(None),
        metrics.access_refused,
    )
    app = FastAPI(
        title="Darkroom",
        description="Trains class-conditional image diffusion models and serves them. [All errors](/docs/errors)",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the host that the client claims
        # FastAPI makes the spans of requests only. Darkroom has its own metrics and logs, and says where spans go.
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": lambda scope: scope.get("path") in PROBES,
        },
    )
    app.state.services = Services(
        settings,
        engine,
        catalog,
        metrics,
        gate,
        OpenCounts("open-event-streams", settings.event_streams),
        database,
        hints=_hint_sender(settings, database),
        job_feed=JobFeed(database) if database else None,
    )
    app.state.drain = Drain()
    exceptions.install(app)
    # The order in which a request's path is looked up: first what must be answered fast under load.
    app.include_router(probes.router)
    strict = [Depends(require_known_query)]
    for short in (generation.router, train_jobs.submission):
        app.include_router(short, dependencies=strict)
    for room in (
        generation.router,
        interpolation.router,
        verification.router,
        generate_jobs.router,
        train_jobs.submission,
        train_jobs.router,
        train_records.router,
        train_events.router,
        recipes.router,
        plans.router,
        sweeps.router,
        model_registry.router,
        versions.router,
        dataset_registry.router,
        api_keys.router,
        storage.router,
        audit.router,
    ):
        app.include_router(room, prefix="/v1", dependencies=strict)
    app.include_router(docs.router)
    docs.mount_assets(app)
    pages.mount(app)
    problems.describe(app)
    scopes.describe(app.openapi())
    describe(app.openapi())
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        BodyLimit,
        limit_bytes=partial(_body_limit, settings),
    )
    at_once = settings.queue_rows + OTHER_REQUESTS
    app.add_middleware(AccessControl, gate=gate, open_requests=OpenCounts("open-requests", at_once // 2))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", HEADER],
            expose_headers=["*"],
        )
    app.add_middleware(RequestCap, most=at_once)
    app.add_middleware(Draining, drain=app.state.drain)
    app.add_middleware(RequestWatch, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(ReadOn)
    return app


def _allow_descriptors() -> None:
    """Let this process open DESCRIPTORS files and connections, or what its hard limit allows. Often it is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def application() -> FastAPI:
    """Return the application, with settings from the environment. A UserError ends the process in one line."""
    with ending_in_one_line(TracingMissing):
        read_settings(LogSettings)
        set_up_server_logs()
        set_up_tracing("api")
        _allow_descriptors()
        settings = read_settings(Settings)
        # A process whose device is lost can serve nothing more: end it, so that its supervisor starts another.
        app = create_app(settings, on_engine_failure=lambda: os.kill(os.getpid(), signal.SIGTERM))
        # `_lifespan` checks this again at each start, but a refusal there is a traceback in uvicorn's log.
        require_keys_beyond_loopback(settings.host, app.state.services.database)
        return app
