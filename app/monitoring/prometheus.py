"""Prometheus metrics of the service and of the engine."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from darkroom.app.engine.engine import EngineStatus
from darkroom.app.engine.observer import EngineObserver
from darkroom.store.database import PoolUse

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_REFUSALS = ("queue_full", "deadline", "too_many_rows", "version_not_loaded", "stopped")
_ACCESS_REFUSALS = (
    *("key_needed", "key_refused", "scope_missing", "cross_site"),
    *("requests_limit", "images_limit", "jobs_limit", "attempts_limit"),
)
_OUTCOMES = ("finished", "cancelled", "deadline", "shutdown", "internal")


class PrometheusMetrics(EngineObserver):
    """The registry of Prometheus metrics, and the engine's observer that counts in it."""

    def __init__(self) -> None:
        disable_created_metrics()  # they would double the number of series
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "darkroom_http_requests", "HTTP requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "darkroom_http_request_duration_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.requests_in_flight = Gauge(
            "darkroom_http_requests_in_flight", "HTTP requests being answered now.", registry=self.registry
        )
        self._refusals = Counter(
            "darkroom_refusals", "Sampling requests that the engine refused.", ["reason"], registry=self.registry
        )
        self._access_refusals = Counter(
            "darkroom_access_refusals",
            "Requests refused because of their key, scope or limits.",
            ["reason"],
            registry=self.registry,
        )
        self._counted_alone = Counter(
            "darkroom_limits_counted_without_redis",
            "Uses of key limits that this process counted alone, because Redis was away.",
            registry=self.registry,
        )
        self._queue_wait = Histogram(
            "darkroom_queue_wait_seconds",
            "Time from submission to a row's first step.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._step = Histogram(
            "darkroom_step_duration_seconds", "Duration of an engine step.", buckets=_SECONDS, registry=self.registry
        )
        self._rows = Histogram(
            "darkroom_step_rows", "Rows advanced by an engine step.", buckets=_ROWS, registry=self.registry
        )
        self._occupancy = Histogram(
            "darkroom_batch_occupancy_ratio",
            "Network rows of an engine step as a share of the batch limit.",
            buckets=_SHARES,
            registry=self.registry,
        )
        self._row_steps = Counter("darkroom_row_steps", "Steps computed, summed over rows.", registry=self.registry)
        self._images = Counter("darkroom_images", "Images drawn.", registry=self.registry)
        self._ended = Counter(
            "darkroom_sampling_requests",
            "Sampling requests that have left the engine.",
            ["outcome"],
            registry=self.registry,
        )
        self._warm_up = Histogram(
            "darkroom_warm_up_step_seconds",
            "Time for which requests wait while the engine warms a model version up: one step of it.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._loads = Counter("darkroom_model_loads", "Model versions warmed up.", ["outcome"], registry=self.registry)
        for counter, words in (
            (self._refusals, _REFUSALS),
            (self._access_refusals, _ACCESS_REFUSALS),
            (self._ended, _OUTCOMES),
            (self._loads, ("loaded", "failed")),
        ):
            for word in words:  # Prometheus' rate() does not see an event that begins its series
                counter.labels(word)

    def step(self, rows: int, network_rows: int, seconds: float, batch_limit: int) -> None:
        """See EngineObserver."""
        self._step.observe(seconds)
        self._rows.observe(rows)
        self._occupancy.observe(network_rows / batch_limit)
        self._row_steps.inc(rows)

    def row_waited(self, seconds: float) -> None:
        """See EngineObserver."""
        self._queue_wait.observe(seconds)

    def refused(self, reason: str) -> None:
        """See EngineObserver."""
        self._refusals.labels(reason).inc()

    def image_finished(self) -> None:
        """See EngineObserver."""
        self._images.inc()

    def request_ended(self, outcome: str) -> None:
        """See EngineObserver."""
        self._ended.labels(outcome).inc()

    def warm_up_step(self, seconds: float) -> None:
        """See EngineObserver."""
        self._warm_up.observe(seconds)

    def version_loaded(self, outcome: str) -> None:
        """See EngineObserver."""
        self._loads.labels(outcome).inc()

    def access_refused(self, reason: str) -> None:
        """Count a refused request. reason: one of a few fixed words."""
        self._access_refusals.labels(reason).inc()

    def counted_alone(self) -> None:
        """Count a use of a key's limits that this process counted without Redis."""
        self._counted_alone.inc()

    def watch(self, status: Callable[[], EngineStatus]) -> None:
        """Read the engine's gauges at every scrape."""
        self.registry.register(_EngineGauges(status))

    def watch_pool(self, use: Callable[[], PoolUse]) -> None:
        """Read the gauges of the database connection pool at every scrape."""
        self.registry.register(_PoolGauges(use))


class _EngineGauges(Collector):
    def __init__(self, status: Callable[[], EngineStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._status()
        yield GaugeMetricFamily("darkroom_rows_waiting", "Rows that wait for their first step.", now.rows_waiting)
        yield GaugeMetricFamily("darkroom_rows_running", "Rows between first and last step.", now.rows_running)
        yield GaugeMetricFamily("darkroom_requests_open", "Sampling requests in the engine.", now.requests)
        yield GaugeMetricFamily("darkroom_resident_versions", "Model versions in memory.", len(now.resident))


class _PoolGauges(Collector):
    def __init__(self, use: Callable[[], PoolUse]) -> None:
        self._use = use

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._use()
        connections = GaugeMetricFamily(
            "darkroom_database_pool_connections", "Open connections to PostgreSQL.", labels=["state"]
        )
        connections.add_metric(["in_use"], now.in_use)
        connections.add_metric(["idle"], now.idle)
        yield connections
        yield GaugeMetricFamily(
            "darkroom_database_pool_limit_connections", "Connections that may be open at once.", now.limit
        )
