"""Laws of the reconciler: it needs only PostgreSQL, and a failed part does not stop the others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from darkroom.store.clock import seconds
from darkroom.store.database import Database
from darkroom.store.job_repository import Claimant, claim_job, get_job, submit_job
from darkroom.store.tables import Job
from darkroom.worker import reconciler
from darkroom.worker.reconciler import reconcile
from darkroom.worker.settings import ReconcilerSettings
from tests.processes import PATIENCE_SECONDS, wait_until


def lapsed_job(database: Database) -> int:
    """Create a job whose worker is lost."""
    with database.session() as session:
        job_id = submit_job(session, kind="train", model_name="m", configuration={}, total_images=10).id
    with database.session() as session:
        job = claim_job(session, Claimant("lost", "cpu"), 60.0)
        assert job is not None
        job.lease_expires_at = func.now() - seconds(1.0)
    return job_id


def is_returned(database: Database, job_id: int) -> bool:
    with database.session() as session:
        return get_job(session, job_id).status == "queued"


def test_it_returns_lapsed_jobs_without_a_broker_and_says_that_it_lives(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    inherited = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    settings = {
        "DATABASE_URL": database_url,
        "DARKROOM_RECONCILE_SECONDS": "0.1",
        "DARKROOM_ALIVE_FILE": str(alive),
    }
    process = subprocess.Popen([sys.executable, "-m", "darkroom.worker.reconciler"], env=inherited | settings)
    try:
        for _ in range(2):
            job_id = lapsed_job(database)
            wait_until(lambda job_id=job_id: is_returned(database, job_id), "the job is returned")
            with database.session() as session:
                session.execute(update(Job).where(Job.id == job_id).values(not_before=func.now() + seconds(600.0)))
        wait_until(alive.exists, "a round")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("broken", ["requeue_lapsed", "fail_unservable", "assemble_what_is_ready", "collect_artifacts"])
def test_a_part_that_fails_does_not_hold_up_the_others(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    ran: list[str] = []
    for name in ("requeue_lapsed", "fail_unservable", "assemble_what_is_ready", "collect_artifacts"):

        def part(session: Session, *_: float, name: str = name) -> None:
            ran.append(name)
            session.execute(select(1 / func.length("" if name == broken else "x")))

        part.__name__ = name
        monkeypatch.setattr(reconciler, name, part)
    reconcile(database, ReconcilerSettings(database_url=database_url))
    assert ran == ["requeue_lapsed", "fail_unservable", "assemble_what_is_ready", "collect_artifacts"]


def test_without_postgresql_a_round_ends_and_the_next_one_begins() -> None:
    away = "postgresql://nobody@/nothing?host=/nonexistent"
    database = Database(away)
    for _ in range(2):
        reconcile(database, ReconcilerSettings(database_url=away))
