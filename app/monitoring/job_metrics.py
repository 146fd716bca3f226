"""Prometheus metrics of jobs and workers, from the database.

A thread reads them every few seconds, and a scrape returns the newest reading. So no scrape waits for a database that
is slow or away; `darkroom_job_statistics_age_seconds` grows then. Every replica returns the same values. Every series
exists from the start, because Prometheus' rate() does not see an event that begins its series.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from darkroom.model.training.finding import FindingKind, Severity
from darkroom.store.database import DATABASE_ERRORS, Database
from darkroom.store.job_repository import ATTEMPT_OUTCOMES, FINISHED, UNFINISHED, FailureKind
from darkroom.store.job_statistics import JobStatistics, read_job_statistics
from darkroom.store.retention import Part
from darkroom.store.tables import JobKind
from darkroom.store.worker_repository import FRESH_SECONDS, WORKER_DEVICES
from darkroom.telemetry.loops import start_loop

REFRESH_SECONDS = 5.0

log = logging.getLogger(__name__)


class JobMetrics(Collector):
    """A collector of the newest reading. It returns no metrics before the first one."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._latest: tuple[JobStatistics, float] | None = None
        self._away = False
        self._ended = threading.Event()

    def start(self) -> None:
        """Start to refresh in a daemon thread, so that the process can end while the database does not answer."""
        start_loop("job metrics", self._keep_fresh, self._ended.is_set)

    def stop(self) -> None:
        """Stop refreshing."""
        self._ended.set()

    def refresh(self) -> None:
        """Read now. If the database is away, keep the earlier reading."""
        try:
            with self._database.session() as session:
                statistics = read_job_statistics(session, FRESH_SECONDS)
        except DATABASE_ERRORS as error:
            if not self._away:
                log.warning("the Prometheus metrics of jobs cannot be read and stay as they were: %s", error)
            self._away = True
        else:
            self._latest = statistics, self._clock()
            self._away = False

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the newest reading (Prometheus calls this at each scrape)."""
        latest = self._latest
        if latest is not None:
            statistics, read_at = latest
            yield GaugeMetricFamily(
                "darkroom_job_statistics_age_seconds",
                "Time since the metrics of jobs and workers were read from the database.",
                self._clock() - read_at,
            )
            yield from _gauges(statistics)
            yield from _counters(statistics)
            yield from _last_backup(statistics)

    def _keep_fresh(self) -> None:
        self.refresh()
        self._ended.wait(REFRESH_SECONDS)


def _gauges(statistics: JobStatistics) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("darkroom_jobs", "Jobs that are not finished.", labels=["kind", "status"])
    ages = GaugeMetricFamily(
        "darkroom_job_queue_oldest_age_seconds",
        "Waiting time of the oldest job that is ready to run, or 0.",
        labels=["kind"],
    )
    for kind in get_args(JobKind):
        for status in UNFINISHED:
            jobs.add_metric([kind, status], statistics.unfinished.get((kind, status), 0))
        ages.add_metric([kind], statistics.queue_age_seconds.get(kind, 0.0))
    yield jobs
    yield ages
    workers = GaugeMetricFamily("darkroom_workers_alive", "Workers seen lately.", labels=["device"])
    faulty = GaugeMetricFamily(
        "darkroom_workers_device_faults",
        "Workers seen lately whose device fails its test, so that they claim no job.",
        labels=["device"],
    )
    for device in WORKER_DEVICES:
        workers.add_metric([device], statistics.workers_alive.get(device, 0))
        faulty.add_metric([device], statistics.device_faults.get(device, 0))
    yield workers
    yield faulty
    for name, field, documentation in (
        ("darkroom_training_images_per_second", "images_per_second", "Speed of training, without evaluation."),
        ("darkroom_training_loss", "loss", "Mean loss since the curve point before."),
        ("darkroom_training_gradient_norm", "gradient_norm", "Mean gradient norm since the curve point before."),
        ("darkroom_training_peak_memory_bytes", "memory_bytes", "Peak memory of the device (CUDA) or process so far."),
    ):
        # not "job": Prometheus gives every series a label of that name
        family = GaugeMetricFamily(name, f"{documentation} Newest running train jobs only.", labels=["job_id"])
        for job_id, point in statistics.trainings.items():
            family.add_metric([str(job_id)], getattr(point, field))
        yield family


def _last_backup(statistics: JobStatistics) -> Iterator[Metric]:
    """Tell when `deploy/postgres/backup` last succeeded, if it ever did."""
    if (at := statistics.counters.get(("last_backup_timestamp_seconds", ""))) is not None:
        yield GaugeMetricFamily("darkroom_last_backup_timestamp_seconds", "When the last backup was made.", at)


def _counters(statistics: JobStatistics) -> Iterator[Metric]:
    for name, counted, documentation in (
        ("darkroom_lease_lapses", "lease_lapses", "Leases that ran out because a worker ended or hung."),
        ("darkroom_checkpoint_write_seconds", "checkpoint_write_seconds", "Time spent on storing checkpoints."),
        ("darkroom_checkpoint_writes", "checkpoint_writes", "Checkpoints stored."),
        (
            "darkroom_training_images",
            "training_images",
            "Images trained on; those lost at an interruption count twice.",
        ),
    ):
        yield CounterMetricFamily(name, documentation, statistics.counters.get((counted, ""), 0.0))
    finished = CounterMetricFamily("darkroom_jobs_finished", "Jobs that have ended.", labels=["kind", "status"])
    for kind in get_args(JobKind):
        for status in FINISHED:
            finished.add_metric([kind, status], statistics.counters.get(("jobs_finished", f"{kind}:{status}"), 0.0))
    yield finished
    found = CounterMetricFamily(
        "darkroom_training_findings",
        "Findings about running trainings, when they appear.",
        labels=["finding", "severity"],
    )
    for what in get_args(FindingKind):
        for severity in get_args(Severity):
            found.add_metric(
                [what, severity], statistics.counters.get(("training_findings", f"{what}:{severity}"), 0.0)
            )
    yield found
    for name, counted, label, words, documentation in (
        ("darkroom_job_attempts_started", "attempts_started", "kind", get_args(JobKind), "Claims of jobs."),
        ("darkroom_job_attempts", "attempts", "outcome", ATTEMPT_OUTCOMES, "Attempts that have ended."),
        ("darkroom_job_failures", "failures", "cause", get_args(FailureKind), "Failures of attempts and jobs."),
        (
            "darkroom_retention_removed",
            "retention_removed",
            "part",
            get_args(Part),
            "Records of ended jobs that were deleted because their time was over.",
        ),
    ):
        family = CounterMetricFamily(name, documentation, labels=[label])
        for word in words:
            family.add_metric([word], statistics.counters.get((counted, word), 0.0))
        yield family
