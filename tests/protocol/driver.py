"""Takes the model's steps in a real PostgreSQL, through the functions of `store/`, and compares after each step.

Each actor has its own connection. A step that opens a transaction runs its statements and leaves it open; a later step
commits it, or ends it as the death of its process would. A statement that must wait for a lock runs in a thread.
The database's clock stands still, and moves only at steps of time.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from bench.history import job_faults, read_history
from darkroom.store import job_repository, promotion
from darkroom.store.aliases import set_alias
from darkroom.store.artifacts import Artifacts
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database, parse_url
from darkroom.store.job_repository import (
    LONGEST_RETRY_SECONDS,
    Claimant,
    Failure,
    JobConflict,
    Lease,
    LeaseLost,
    claim_job,
    get_job,
    job_waits,
    renew,
    request_cancel,
    requeue,
    submit_job,
)
from darkroom.store.model_repository import PRODUCTION, VersionCollected
from darkroom.store.run_repository import record_checkpoint
from darkroom.store.tables import Job
from tests.protocol.model import CHECKPOINTS, MAX_ATTEMPTS, NAMES, Row, State, Step

LEASE_SECONDS = 3600.0
IMAGES = 5
"""Between two checkpoints."""

BROKEN = Failure("crashed", "it broke")
STILL = {"options": "-csearch_path=still,public,pg_catalog -cstatement_timeout=120s"}
CLOCK = """
CREATE SCHEMA still;
CREATE TABLE still.clock AS SELECT pg_catalog.clock_timestamp() + interval '1 day' AS at;
CREATE FUNCTION still.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS 'SELECT at FROM still.clock';
CREATE FUNCTION still.now() RETURNS timestamptz VOLATILE LANGUAGE sql AS 'SELECT at FROM still.clock';
"""
"""A clock that stands still, for every statement with STILL: its functions hide PostgreSQL's own."""

RECORDS = """
SELECT j.status, j.attempt,
    CASE WHEN j.lease_expires_at IS NULL THEN '' WHEN j.lease_expires_at > c.at THEN 'live' ELSE 'lapsed' END,
    j.status <> 'queued' OR j.not_before <= c.at,
    j.failures,
    (SELECT count(*) FROM job_checkpoints WHERE job_id = j.id),
    COALESCE((SELECT v.artifact_digest IS NOT NULL FROM checkpoints v JOIN models m ON m.id = v.model_id
        WHERE m.name = :model AND v.version = 1), true),
    COALESCE((SELECT v.version FROM model_aliases a JOIN models m ON m.id = a.model_id
        JOIN checkpoints v ON v.id = a.checkpoint_id WHERE m.name = :model AND a.alias = 'production'), 0)
FROM jobs j, still.clock c WHERE j.id = :job_id
"""
"""The fields of the model's `Row`."""


class NothingToDo(Exception):
    """An actor has looked and found nothing."""


class Divergence(AssertionError):
    """The database does something else than the model."""


@dataclass
class Actor:
    """session: its open transaction, on `connection` of psycopg. lease: its claim. waiting: for a lock, in a thread."""

    session: Session | None = None
    connection: Any = None
    lease: Lease | None = None
    waiting: Future[None] | None = None


class Driver:
    """Takes steps of one job at a time in a database of its own."""

    def __init__(self, url: str) -> None:
        self.database = Database(parse_url(url).update_query_dict(STILL).render_as_string(hide_password=False))
        with self.database.engine.begin() as connection:
            connection.execute(text(CLOCK))
        self._threads = ThreadPoolExecutor(len(NAMES))
        self._traces = 0
        self.steps = 0

    def close(self) -> None:
        """Close all connections."""
        self._threads.shutdown()
        self.database.dispose()

    def follow(self, trace: Sequence[tuple[Step, State]]) -> Sequence[str]:
        """Take the steps, compare with the state after each, and return the faults of the job's history.

        Raises Divergence.
        """
        self._begin()
        before = State()
        try:
            for number, (step, after) in enumerate(trace):
                try:
                    self._take(step, before, after)
                    self._compare(after)
                except (Divergence, OperationalError) as error:
                    told = ", ".join(f"{one.actor} {one.action}" for one, _ in trace[: number + 1])
                    raise Divergence(f"{error} after: {told}") from error
                before = after
                self.steps += 1
            return self._faults()
        finally:
            self._end()

    def _begin(self) -> None:
        self._traces += 1
        self._model = f"trace-{self._traces}"
        self._job_id = 0
        self._actors = {name: Actor() for name in (*NAMES, "api", "reconciler")}

    def _end(self) -> None:
        for actor in self._actors.values():
            self._kill(actor)
        with self.database.session() as session:
            session.execute(delete(Job).where(Job.id == self._job_id))

    def _take(self, step: Step, before: State, after: State) -> None:
        """Take one step. Raises Divergence when its statements wait, or do not, unlike the model's."""
        if step.actor == "time":
            self._move_clock(LEASE_SECONDS if step.action == "lapse" else LONGEST_RETRY_SECONDS)
            return
        actor = self._actors[step.actor]
        match step.action:
            case "die":
                self._kill(actor)
            case "commit" | "commit unheard":
                assert actor.session is not None
                actor.session.commit()
                self._close(actor)
                if step.actor in NAMES and not after.workers[NAMES.index(step.actor)].attempt:
                    actor.lease = None
            case "submit":
                with self.database.session() as session:
                    self._job_id = self._submit(session)
            case "retry":
                with self.database.session() as session:
                    requeue(session, self._job_id, was=get_job(session, self._job_id).status)
            case action:
                waits = step.actor in NAMES and after.workers[NAMES.index(step.actor)].waits
                self._open(step.actor, actor, action, before, waits=waits)
        for name, worker in zip(NAMES, after.workers, strict=True):
            waited = self._actors[name].waiting
            if waited is not None and not worker.waits:
                self._actors[name].waiting = None
                self._conclude(self._actors[name], waited.result)

    def _open(self, name: str, actor: Actor, action: str, before: State, *, waits: bool) -> None:
        """Open a transaction and run the statements of an action up to its commit."""
        actor.session = Session(self.database.engine, expire_on_commit=False)
        actor.connection = actor.session.connection().connection.dbapi_connection

        def run() -> None:
            assert actor.session is not None
            self._statements(actor.session, name, actor, action, before)
            actor.session.flush()

        if not waits:
            self._conclude(actor, run)
            return
        actor.waiting = self._threads.submit(run)
        with self.database.engine.connect() as connection:
            blocked = select(func.cardinality(func.pg_blocking_pids(actor.connection.info.backend_pid)) > 0)
            while not connection.scalar(blocked):
                if actor.waiting.done():
                    raise Divergence(f"{name} {action} did not wait for the lock")
                time.sleep(0.0005)

    def _conclude(self, actor: Actor, statements: Callable[[], object]) -> None:
        """Run statements; where there is nothing to commit, close the transaction."""
        try:
            statements()
        except LeaseLost:
            self._close(actor)
            actor.lease = None
        except (NothingToDo, JobConflict, VersionCollected):
            self._close(actor)

    def _statements(self, session: Session, name: str, actor: Actor, action: str, before: State) -> None:
        match name, action:
            case "api", "cancel":
                request_cancel(session, self._job_id)
            case "api", "promote":
                set_alias(session, COMMAND_LINE, self._model, PRODUCTION, 1)
            case "reconciler", "look":
                if not job_repository.requeue_lapsed(session):
                    raise NothingToDo
            case worker, "look":
                job = claim_job(session, Claimant(worker, "cpu"), LEASE_SECONDS)
                if job is None:
                    waiting = before.row.status == "queued" and before.row.due
                    if job_waits(session, Claimant(worker, "cpu")) != waiting:
                        raise Divergence(f"job_waits is {not waiting}")
                    raise NothingToDo
                actor.lease = Lease(job.id, job.attempt)
            case _, write:
                assert actor.lease is not None
                self._write(session, actor.lease, write, before.row.checkpoints + 1)

    def _write(self, session: Session, lease: Lease, kind: str, number: int) -> None:
        match kind:
            case "renew":
                renew(session, lease, LEASE_SECONDS)
            case "checkpoint":
                # different for each attempt: a second writer of equal bytes would wait for the first one's commit
                state = Artifacts(session).put(f"state {self._model} {number} {lease.attempt}".encode())
                record_checkpoint(
                    session,
                    job_repository.hold(session, lease),
                    IMAGES * number,
                    weights=f"weights {self._model} {number}".encode(),
                    state_digest=state,
                    configuration={},
                    class_names=["one"],
                    keep_last=1,
                )
            case "succeed":
                promotion.succeed_training(session, lease)
            case "fail":
                job_repository.fail(session, lease, BROKEN)
            case "crash":
                job_repository.crash(session, lease, BROKEN)
            case "stop":
                job_repository.stop(session, lease)

    def _submit(self, session: Session) -> int:
        return submit_job(
            session,
            kind="train",
            model_name=self._model,
            configuration={"recipe": {"evaluation": None}, "start": None},
            total_images=IMAGES * CHECKPOINTS,
            promote="best",
            max_attempts=MAX_ATTEMPTS,
        ).id

    def _kill(self, actor: Actor) -> None:
        """End a process: its transaction is rolled back."""
        if actor.waiting is not None:
            actor.connection.cancel()
            actor.waiting.exception()
            actor.waiting = None
        if actor.session is not None:
            self._close(actor)
        actor.lease = None

    def _close(self, actor: Actor) -> None:
        assert actor.session is not None
        actor.session.close()
        actor.session = None

    def _move_clock(self, by_seconds: float) -> None:
        with self.database.engine.begin() as connection:
            connection.execute(text("UPDATE still.clock SET at = at + :by"), {"by": timedelta(seconds=by_seconds)})

    def _compare(self, expected: State) -> None:
        """Raise Divergence unless the committed records and the open transactions are as expected."""
        with self.database.engine.connect() as connection:
            found = connection.execute(text(RECORDS), {"job_id": self._job_id, "model": self._model}).one_or_none()
        row = Row(*found) if found else Row()
        if row != expected.row:
            raise Divergence(f"the database has {row}, the model {expected.row}")
        opened = {name: bool(worker.open) for name, worker in zip(NAMES, expected.workers, strict=True)}
        opened |= {"api": bool(expected.api), "reconciler": expected.rescue}
        for name, actor in self._actors.items():
            if (actor.session is not None) != opened[name]:
                raise Divergence(f"{name} has {'an' if actor.session else 'no'} open transaction, unlike the model's")
        for name, worker in zip(NAMES, expected.workers, strict=True):
            lease = self._actors[name].lease
            if worker.open != "claim" and (lease.attempt if lease else 0) != worker.attempt:
                raise Divergence(f"{name} holds {lease}, in the model attempt {worker.attempt}")

    def _faults(self) -> Sequence[str]:
        with self.database.session() as session:
            return list(job_faults(read_history(session, get_job(session, self._job_id)), must_end=False))
