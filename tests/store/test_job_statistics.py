"""Laws of the jobs' statistics: they are correct, and their cost does not grow with the number of finished jobs."""

import re
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.database import Database
from darkroom.store.job_repository import (
    Claimant,
    Failure,
    Lease,
    claim_job,
    crash,
    hold,
    request_cancel,
    submit_job,
    succeed,
)
from darkroom.store.job_statistics import TRAININGS_TOLD, read_job_statistics
from darkroom.store.run_repository import record_curve_points
from darkroom.store.tables import Job, JobKind
from darkroom.store.worker_repository import see_worker

FINISHED_JOBS = 20_000
LEASE_SECONDS = 600.0


def _submit(session: Session, kind: JobKind = "train", priority: int = 0) -> Job:
    return submit_job(
        session, kind=kind, model_name="tiny", configuration={}, total_images=100, device="cpu", priority=priority
    )


def _claim(session: Session) -> Job:
    job = claim_job(session, Claimant("worker", "cpu"), LEASE_SECONDS)
    assert job is not None
    return job


def _point(images_seen: int, loss: float) -> CurvePoint:
    return CurvePoint(images_seen, loss, 1.0, 1e-3, 10.0 * images_seen, 7)


def test_they_are_what_happened(database: Database) -> None:
    with database.session() as session:
        for kind in ("train", "train", "sample", "train", "train"):
            _submit(session, kind)
    with database.session() as session:
        done, crashed, _, cancelling = (_claim(session) for _ in range(4))
        record_curve_points(session, done, [_point(10, 0.9)])
        record_curve_points(session, cancelling, [_point(10, 0.7), _point(20, 0.5)])
        session.flush()
        succeed(session, Lease(done.id, done.attempt))
        crash(session, Lease(crashed.id, crashed.attempt), Failure("crashed", "it did"))
        request_cancel(session, cancelling.id)
        see_worker(session, "one", "cpu", 1)
        see_worker(session, "two", "cpu", 1)
        see_worker(session, "three", "cuda", 2, "its driver is gone")
        see_worker(session, "lost", "cuda", 2)
        session.execute(text("UPDATE workers SET seen_at = now() - interval '1 hour' WHERE name = 'lost'"))
        session.execute(text("UPDATE jobs SET not_before = now() - interval '100 s' WHERE status = 'queued'"))
        session.execute(
            text("UPDATE jobs SET not_before = now() + interval '100 s' WHERE id = :id"), {"id": crashed.id}
        )
    with database.session() as session:
        found = read_job_statistics(session, 60.0)
    assert found.unfinished == {
        ("train", "queued"): 2,
        ("sample", "running"): 1,
        ("train", "cancelling"): 1,
    }
    assert list(found.queue_age_seconds) == ["train"]
    assert 100.0 <= found.queue_age_seconds["train"] < 200.0
    assert found.trainings == {cancelling.id: _point(20, 0.5)}
    assert found.workers_alive == {"cpu": 2, "cuda": 1}
    assert found.device_faults == {"cpu": 0, "cuda": 1}
    assert found.counters == {
        ("jobs_finished", "train:succeeded"): 1.0,
        ("attempts", "succeeded"): 1.0,
        ("attempts", "crashed"): 1.0,
        ("attempts_started", "train"): 3.0,
        ("attempts_started", "sample"): 1.0,
        ("failures", "crashed"): 1.0,
        ("training_images", ""): 30.0,
    }


@pytest.mark.parametrize("later", [False, True])
def test_without_a_job_that_could_run_the_queue_has_no_age(database: Database, later: bool) -> None:
    with database.session() as session:
        if later:
            _submit(session).not_before = text("now() + interval '1 hour'")
        session.flush()
        assert read_job_statistics(session, 60.0).queue_age_seconds == {}


def test_of_many_trainings_the_newest_are_told(database: Database) -> None:
    with database.session() as session:
        jobs = [_submit(session) for _ in range(TRAININGS_TOLD + 3)]
    with database.session() as session:
        for _ in jobs:
            claimed = _claim(session)
            record_curve_points(session, hold(session, Lease(claimed.id, claimed.attempt)), [_point(10, 0.5)])
        session.flush()
        found = read_job_statistics(session, 60.0)
    assert list(found.trainings) == [job.id for job in reversed(jobs)][:TRAININGS_TOLD]


def test_no_statement_looks_at_finished_jobs(database: Database) -> None:
    with database.session() as session:
        session.execute(
            text(
                "INSERT INTO jobs (kind, status, model_name, configuration, total_images, attempt, finished_at)"
                " SELECT (ARRAY['train', 'sample'])[1 + n % 2], (ARRAY['succeeded', 'failed'])[1 + n % 3 / 2], 'tiny',"
                "        '{}', 100, 1, now() FROM generate_series(1, :jobs) AS n"
            ),
            {"jobs": FINISHED_JOBS},
        )
        session.execute(
            text(
                "INSERT INTO job_metrics SELECT id, images, 0.5, 1, 0.001, 10, 0"
                " FROM jobs, generate_series(1, 5) AS images"
            )
        )
        for priority in range(20):
            _submit(session, priority=priority)
        session.flush()
        for _ in range(10):
            job = _claim(session)
            record_curve_points(session, job, [_point(n, 0.5) for n in range(1, 100)])
    with database.session() as session:
        session.execute(text("ANALYZE jobs"))
        session.execute(text("ANALYZE job_metrics"))

    statements: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        statements.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.session() as session:
        found = read_job_statistics(session, 60.0)
    event.remove(database.engine, "before_cursor_execute", note)
    assert sum(found.unfinished.values()) == 20
    assert len(found.trainings) == 10

    on_jobs = [one for one in statements if re.search(r"FROM jobs\b", one[0])]
    assert len(on_jobs) == 3
    with database.engine.connect() as connection:
        for statement, parameters in on_jobs:
            rows = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", parameters).scalars().all()
            plan = "\n".join(rows)
            assert "Seq Scan" not in plan, plan
            assert re.search(r"ix_jobs_(claim|lease)", plan), plan
            touched = [int(float(number)) for number in re.findall(r"actual rows=([\d.]+)", plan)]
            assert max(touched) <= 20, plan
