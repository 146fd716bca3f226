"""A worker's own /metrics: facts of its machine. The API's /metrics has what PostgreSQL knows of jobs."""

import logging
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from darkroom.store.hints import broker_answers
from darkroom.store.places import StorageProbe
from darkroom.telemetry.machine import watch_machine
from darkroom.telemetry.reachability import Reachability
from darkroom.worker.device_check import DeviceCheck
from darkroom.worker.settings import WorkerSettings

log = logging.getLogger(__name__)


def serve_metrics(
    settings: WorkerSettings, port: int, device: DeviceCheck, database_answers: Callable[[], bool]
) -> None:
    """Answer Prometheus from a thread. When the port is taken, log it and go on: jobs matter more than metrics.

    database_answers: True when the last beat was stored. A probe of its own would double what an idle worker sends.
    """
    registry = CollectorRegistry()
    watch_machine(registry, settings.cache_folder)
    device_up = Gauge(
        "darkroom_worker_device_up", "1 when the worker's device passed its last test, else 0.", registry=registry
    )
    device_up.set_function(lambda: float(device.fault is None))
    probes: dict[str, Callable[[], bool]] = {
        "database": database_answers,
        "broker": partial(broker_answers, settings.redis_url),
    }
    if settings.artifacts_url is not None:
        probes["storage"] = StorageProbe(settings.artifacts_url)
    reachability = Reachability(probes)
    registry.register(reachability)
    try:
        start_http_server(port, settings.metrics_host, registry)
    except OSError as error:
        log.error("metrics cannot be served on %s port %d: %s", settings.metrics_host, port, error.strerror)
        return
    reachability.start()
