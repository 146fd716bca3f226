"""Measures the queries on the table of jobs, with 10 and with 1,000,000 jobs: `python -m bench.jobs_list`.

It fills a private PostgreSQL with jobs. For each query it prints the median time at both sizes, and the plan at the
larger one. The times depend on the machine. They must not grow with the table, and no plan may read the whole table.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.database import Database
from darkroom.store.job_repository import Claimant, claim_job, job_waits, list_jobs, requeue_lapsed
from darkroom.store.migrations import upgrade
from darkroom.store.sweep_repository import count_jobs, sweep_jobs
from darkroom.store.worker_repository import count_idle_workers

SMALL = 10
REPEATS = 21
PAGE = 10
"""As many as the small table has, so that both sizes are measured with equal pages."""

Query = Callable[[Session], Any]

FILL = """
INSERT INTO sweeps (name, configuration, fields) SELECT 'sweep', '{}', '[]' FROM generate_series(1, 1 + :count / 100);
INSERT INTO jobs (kind, status, priority, model_name, configuration, total_images, sweep_id, images_done,
                  lease_expires_at, finished_at, not_before)
SELECT CASE WHEN n % 10 = 0 THEN 'sample' ELSE 'train' END,
       status,
       n % 7,
       'model-' || n % 100,
       '{"recipe": {}}',
       1000,
       CASE WHEN n % 10 > 0 THEN (SELECT min(id) FROM sweeps) + n / 100 END,
       n % 1000,
       CASE WHEN status IN ('running', 'cancelling') THEN now() + interval '1 hour' END,
       CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN now() END,
       now() - interval '1 hour'
FROM (SELECT n, CASE WHEN n % 1000 = 1 THEN 'queued' WHEN n % 1000 = 2 THEN 'running' WHEN n % 1000 = 3 THEN 'failed'
                     WHEN n % 1000 = 4 THEN 'cancelled' ELSE 'succeeded' END AS status
      FROM generate_series(1, :count) AS n) AS numbered;
"""
"""Most jobs are done, a thousandth waits, a thousandth runs; a hundred models and a hundred jobs a sweep."""


def fill(session: Session, count: int) -> None:
    """Insert `count` jobs."""
    for statement in FILL.split(";")[:-1]:
        session.execute(text(statement), {"count": count})


def analyse(database: Database) -> None:
    """Vacuum and analyse, as autovacuum does later: planner statistics and the visibility map for index-only scans."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
        connection.execute(text("VACUUM ANALYZE sweeps"))


def queries(newest: int, sweep_id: int) -> Mapping[str, Query]:
    """Return the queries on jobs by name. newest: id of the newest job; pages begin in the middle below it."""
    worker = Claimant("bench", "cpu")
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "status": {"status": "queued"},
        "rare status": {"status": "failed"},
        "status of none": {"status": "cancelling"},
        "model": {"model_name": "model-7"},
        "model of none": {"model_name": "nobody"},
        "model and status": {"model_name": "model-7", "status": "succeeded"},
        "model and status of none": {"model_name": "model-7", "status": "failed"},
    }
    found: dict[str, Query] = {}
    for name, chosen in filters.items():
        for page, before in (("first page", None), ("middle", newest - newest // 2)):

            def read(session: Session, chosen: dict[str, Any] = chosen, before: int | None = before) -> Any:
                return list_jobs(session, kind="train", limit=PAGE, before=before, **chosen)

            found[f"list: {name}, {page}"] = read
    return found | {
        "claim": lambda session: claim_job(session, worker, 60.0),
        "lapsed leases": requeue_lapsed,
        "waiting": lambda session: job_waits(session, worker),
        "idle workers": lambda session: count_idle_workers(session, 60.0),
        "a sweep's jobs": lambda session: sweep_jobs(session, sweep_id),
        "a sweep's counts": lambda session: count_jobs(session, [sweep_id]),
    }


@contextmanager
def rolled_back(database: Database) -> Iterator[Session]:
    """Open a transaction and roll it back."""
    with database.session() as session:
        yield session
        session.rollback()


def plans(database: Database, query: Query) -> list[dict[str, Any]]:
    """Return PostgreSQL's plans (JSON) of the statements on jobs that the query sends."""
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "jobs" in statement and not many and not statement.startswith("INSERT"):
            sent.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with rolled_back(database) as session:
            query(session)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    with rolled_back(database) as session:
        connection = session.connection()
        return [
            connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()[0]["Plan"]
            for statement, parameters in sent
        ]


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a plan's nodes, the outermost first."""
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def described(plan: Mapping[str, Any]) -> str:
    """Describe a plan in one line."""
    steps = []
    for node in nodes(plan):
        where = node.get("Index Name") or node.get("Relation Name")
        steps.append(node["Node Type"] + (f" {where}" if where else ""))
    return " < ".join(steps)


def milliseconds(database: Database, query: Query) -> float:
    """Return the median time of the query on a warm connection."""
    taken = []
    for _ in range(REPEATS):
        with rolled_back(database) as session:
            session.connection()
            began = time.perf_counter()
            query(session)
            taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def _measure(database: Database) -> dict[str, float]:
    with database.session() as session:
        newest = session.execute(text("SELECT max(id) FROM jobs")).scalar_one()
        sweep_id = session.execute(text("SELECT min(id) FROM sweeps")).scalar_one()
    return {name: milliseconds(database, query) for name, query in queries(newest, sweep_id).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Times and plans of the queries on jobs, few and many.")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    large = parser.parse_args().jobs
    console = Console(width=200)
    with tempfile.TemporaryDirectory() as folder:
        server = PrivatePostgres(Path(folder))
        server.start()
        try:
            upgrade(server.url)
            database = Database(server.url)
            times = []
            for count in (SMALL, large - SMALL):
                with database.session() as session:
                    fill(session, count)
                analyse(database)
                times.append(_measure(database))
            with database.session() as session:
                newest = session.execute(text("SELECT max(id) FROM jobs")).scalar_one()
                sweep_id = session.execute(text("SELECT min(id) FROM sweeps")).scalar_one()
            table = Table("query", f"{SMALL:,} jobs, ms", f"{large:,} jobs, ms", "plan", box=None)
            for name, query in queries(newest, sweep_id).items():
                first = plans(database, query)[0]
                table.add_row(name, f"{times[0][name]:.2f}", f"{times[1][name]:.2f}", described(first))
            console.print(table)
            database.dispose()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
