"""Laws of a work process's transactions: they lock nothing while bytes are stored, and retries have a limit."""

import threading
from collections.abc import Callable
from io import BytesIO
from queue import Queue
from typing import Any, BinaryIO

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database, DatabaseBusy, DatabaseFull
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import Lease, renew, submit_job
from darkroom.store.part_repository import record_part, record_result
from darkroom.store.run_repository import job_checkpoints, job_samples
from darkroom.store.tables import Artifact
from darkroom.worker import transactions
from darkroom.worker.training import JobRecord
from darkroom.worker.transactions import MOST_GIVEN_UP, transact
from tests.generate_jobs import claim, submit
from tests.processes import PATIENCE_SECONDS
from tests.worker.train_jobs import short_recipe


def _record(database: Database) -> JobRecord:
    with database.session() as session:
        submit_job(session, kind="train", model_name="m", configuration={}, total_images=10)
    job, lease = claim(database)
    return JobRecord(database, job.id, lease, TrainWork(recipe=short_recipe()), ["zero"])


def _checkpoint(database: Database) -> tuple[Lease, Callable[[], object], int]:
    record = _record(database)

    def write() -> None:
        record.checkpoint(8, b"weights", b"state")
        record.samples(8, b"picture")
        record.flush()

    return record._reporter._lease, write, 3


def _part(database: Database) -> tuple[Lease, Callable[[], object], int]:
    submit(database)
    _, lease = claim(database)
    return lease, lambda: transact(database, lambda session: record_part(session, lease, 0, 5, b"pixels")), 1


def _result(database: Database) -> tuple[Lease, Callable[[], object], int]:
    submit(database)
    _, lease = claim(database)
    return lease, lambda: transact(database, lambda session: record_result(session, lease, BytesIO(b"archive"))), 1


@pytest.mark.parametrize("made", [_checkpoint, _part, _result])
def test_the_lease_is_renewed_while_bytes_are_stored_however_long_that_takes(
    database: Database, monkeypatch: pytest.MonkeyPatch, made: Callable[[Database], Any]
) -> None:
    lease, write, artifacts = made(database)
    storing, renewed = Queue[str](), Queue[None]()
    store = Artifacts._store

    def slow(self: Artifacts, row: Artifact, file: BinaryIO) -> None:
        storing.put(row.digest)
        renewed.get(timeout=PATIENCE_SECONDS)
        store(self, row, file)

    monkeypatch.setattr(Artifacts, "_store", slow)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    stored = set()
    for _ in range(artifacts):
        stored.add(storing.get(timeout=PATIENCE_SECONDS))
        with database.session() as session:
            session.execute(text("SET LOCAL lock_timeout = '10s'"))
            renew(session, lease, 600.0)
        renewed.put(None)
    writer.join()
    with database.session() as session:
        assert stored == {digest for digest in stored if session.get(Artifact, digest) is not None}
        if made is _checkpoint:
            assert [row.images_seen for row, _ in job_checkpoints(session, lease.job_id)] == [8]
            assert [row.images_seen for row in job_samples(session, lease.job_id)] == [8]


def _failing(code: str, tries: list[int]) -> Callable[[Session], None]:
    def action(session: Session) -> None:
        tries.append(1)
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{code}'; END $$"))

    return action


def test_a_transaction_is_tried_again_and_statements_that_the_server_gives_up_have_a_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "RETRY_SECONDS", 0.0)
    tries: list[int] = []
    with pytest.raises(DatabaseBusy, match="as told"):
        transact(database, _failing("57014", tries))
    assert len(tries) == MOST_GIVEN_UP
    tries.clear()
    with pytest.raises(DatabaseFull):
        transact(database, _failing("53100", tries))
    assert len(tries) == 1

    def at_last(session: Session) -> str:
        if len(tries) <= 2 * MOST_GIVEN_UP:
            _failing("25006", tries)(session)
        return "done"

    assert transact(database, at_last) == "done"  # the lease is the limit of an absence
