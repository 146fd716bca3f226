"""Laws of job metrics: a scrape returns the newest reading, and neither fails nor waits if the database is away."""

import socket
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from darkroom.app.monitoring.job_metrics import JobMetrics
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.counters import count
from darkroom.store.database import Database
from darkroom.store.job_repository import Claimant, Lease, claim_job, submit_job, succeed
from darkroom.store.run_repository import record_curve_points
from darkroom.store.worker_repository import see_worker
from tests.app.served import serving, weights_folder
from tests.processes import wait_until

Samples = dict[tuple[str, tuple[str, ...]], float]


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _samples(exposition: str) -> Samples:
    """Value by name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def _scrape(metrics: JobMetrics) -> Samples:
    registry = CollectorRegistry()
    registry.register(metrics)
    return _samples(generate_latest(registry).decode())


def _fill(database: Database) -> tuple[int, int]:
    """Add a finished, a running and a queued job; return the ids of the first two."""
    with database.session() as session:
        for _ in range(3):
            submit_job(session, kind="train", model_name="tiny", configuration={}, total_images=100)
    with database.session() as session:
        done, running = (claim_job(session, Claimant("w", "cpu"), 600.0) for _ in range(2))
        assert done is not None
        assert running is not None
        record_curve_points(session, running, [CurvePoint(10, 0.25, 1.5, 1e-3, 12.5, 4096)])
        session.flush()
        succeed(session, Lease(done.id, done.attempt))
        see_worker(session, "w", "cpu", 1)
        see_worker(session, "broken", "cuda", 1, "its driver is gone")
        count(session, "lease_lapses", "", 2)
        count(session, "checkpoint_write_seconds", "", 4.5)
        count(session, "checkpoint_writes", "", 5)
    return done.id, running.id


def test_a_scrape_returns_the_newest_reading(database: Database) -> None:
    clock = _Clock()
    metrics = JobMetrics(database, clock)
    assert _scrape(metrics) == {}
    _, running = _fill(database)
    metrics.refresh()
    clock.now += 7.0
    found = _scrape(metrics)
    assert found.pop(("darkroom_job_queue_oldest_age_seconds", ("train",))) >= 0.0
    happened: Samples = {
        ("darkroom_job_statistics_age_seconds", ()): 7.0,
        ("darkroom_jobs", ("train", "queued")): 1.0,
        ("darkroom_jobs", ("train", "running")): 1.0,
        ("darkroom_workers_alive", ("cpu",)): 1.0,
        ("darkroom_workers_alive", ("cuda",)): 1.0,
        ("darkroom_workers_device_faults", ("cuda",)): 1.0,
        ("darkroom_training_images_per_second", (str(running),)): 12.5,
        ("darkroom_training_loss", (str(running),)): 0.25,
        ("darkroom_training_gradient_norm", (str(running),)): 1.5,
        ("darkroom_training_peak_memory_bytes", (str(running),)): 4096.0,
        ("darkroom_training_images_total", ()): 10.0,
        ("darkroom_job_attempts_started_total", ("train",)): 2.0,
        ("darkroom_lease_lapses_total", ()): 2.0,
        ("darkroom_checkpoint_write_seconds_total", ()): 4.5,
        ("darkroom_checkpoint_writes_total", ()): 5.0,
        ("darkroom_jobs_finished_total", ("train", "succeeded")): 1.0,
        ("darkroom_job_attempts_total", ("succeeded",)): 1.0,
    }
    assert {name: value for name, value in found.items() if value} == happened
    words = {
        "jobs": 9,
        "jobs_finished_total": 9,
        "job_attempts_total": 6,
        "workers_alive": 2,
        "workers_device_faults": 2,
    }
    for name, count_of_words in words.items():  # each series exists from the start, as 0
        assert sum(one == f"darkroom_{name}" for one, _ in found) == count_of_words


def test_while_the_database_is_away_the_earlier_reading_stays_and_grows_old(database: Database) -> None:
    clock = _Clock()
    metrics = JobMetrics(database, clock)
    _fill(database)
    metrics.refresh()
    before = _scrape(metrics)
    with database.session() as session:
        session.connection().exec_driver_sql("ALTER TABLE workers RENAME TO gone")
    for _ in range(2):
        clock.now += 5.0
        metrics.refresh()
    after = _scrape(metrics)
    assert after.pop(("darkroom_job_statistics_age_seconds", ())) == 10.0
    assert before.pop(("darkroom_job_statistics_age_seconds", ())) == 0.0
    assert after == before


def test_a_database_that_accepts_connections_and_never_answers_delays_no_scrape() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        metrics = JobMetrics(Database(address))
        before = set(threading.enumerate())
        metrics.start()
        taken, _ = silent.accept()  # the thread is waiting for an answer now
        with taken:
            assert _scrape(metrics) == {}
            (thread,) = set(threading.enumerate()) - before
            assert thread.is_alive()
            assert thread.daemon
            metrics.stop()


def test_the_service_has_the_job_metrics(tmp_path: Path, database_url: str, database: Database) -> None:
    _fill(database)
    with serving(weights_folder(tmp_path), database_url=database_url) as service:
        wait_until(
            lambda: _samples(service.client.get("/metrics").text).get(("darkroom_jobs", ("train", "running"))) == 1.0,
            "read",
        )
