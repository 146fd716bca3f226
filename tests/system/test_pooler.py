"""Laws of PgBouncer in transaction mode: Darkroom migrates, submits, trains and serves through a few connections."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.database import DATABASE_ERRORS, Database, Pool
from darkroom.store.migrations import downgrade, require_current, upgrade
from darkroom.store.tables import Base
from tests.app.served import weights_folder
from tests.model.small import small_recipe
from tests.pgbouncer import pgbouncer
from tests.system.cluster import Cluster

SERVERS = 2
"""Connections to PostgreSQL. The processes hold more to PgBouncer."""


def _left_behind(url: str) -> list[str]:
    """Return the advisory locks that are held, and the settings of a pooled connection that a client has changed."""
    with psycopg.connect(url, prepare_threshold=None) as connection:
        locks = connection.execute("SELECT objid::text FROM pg_locks WHERE locktype = 'advisory'").fetchall()
        changed = connection.execute("SELECT name FROM pg_settings WHERE name = 'lock_timeout' AND setting <> '0'")
        return [name for (name,) in [*locks, *changed.fetchall()]]


def test_migrations_of_several_starters_leave_nothing_on_the_connections(
    postgres_server: PrivatePostgres, empty_database_url: str, tmp_path: Path
) -> None:
    with pgbouncer(empty_database_url, tmp_path / "pgbouncer", SERVERS) as url:
        with ThreadPoolExecutor(SERVERS) as starters:
            list(starters.map(upgrade, [url] * SERVERS))
        require_current(url)
        assert [_left_behind(url) for _ in range(SERVERS)] == [[]] * SERVERS
        downgrade(url, "base")
        upgrade(url)
        database = Database(empty_database_url)
        assert Base.metadata.tables.keys() <= set(inspect(database.engine).get_table_names())
        database.dispose()
        assert [_left_behind(url) for _ in range(SERVERS)] == [[]] * SERVERS


def test_prepared_statements_need_a_connection_of_their_own(database_url: str, tmp_path: Path) -> None:
    def repeat(prepared: bool) -> None:
        """Send one statement often, from two processes whose transactions alternate."""
        clients = [Database(url, Pool(1, 0), prepared=prepared) for _ in range(2)]
        for _ in range(10):
            for client in clients:
                with client.session() as session:
                    assert session.execute(text("SELECT :given + 1"), {"given": 1}).scalar_one() == 2
        for client in clients:
            client.dispose()

    with pgbouncer(database_url, tmp_path / "pgbouncer", 1) as url:
        repeat(prepared=False)
        with pytest.raises((*DATABASE_ERRORS, SQLAlchemyError)):
            repeat(prepared=True)


class _Pooled(Cluster):
    """A cluster whose processes reach PostgreSQL by `pooler` alone."""

    pooler = ""

    @property
    def environment(self) -> dict[str, str]:
        """As for every cluster, with the address of the pooler."""
        return super().environment | {"DATABASE_URL": self.pooler, "DATABASE_POOLER": "true"}


def _backends(url: str) -> int:
    """Return how many connections Darkroom's processes have to PostgreSQL."""
    with psycopg.connect(url) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'darkroom %'"
        (count,) = connection.execute(asked).fetchall()[0]
        return int(count)


def test_an_api_and_workers_run_jobs_through_few_connections(tmp_path: Path) -> None:
    running = _Pooled(tmp_path / "cluster")
    try:
        with pgbouncer(running.postgres.url, tmp_path / "pgbouncer", SERVERS) as running.pooler:
            api = running.start_api(weights_folder(tmp_path / "weights"))
            for name in ("one", "two"):
                running.start_worker(name)
            running.start_reconciler()
            running.register()
            recipe = small_recipe().model_dump(mode="json", exclude={"dataset"})
            with httpx.Client(base_url=f"{api}/v1", trust_env=False, timeout=60.0) as client:
                asked = [client.post("/train-jobs", json={"recipe": recipe, "dataset": "data"}) for _ in range(4)]
                assert [answer.status_code for answer in asked] == [202] * 4, asked[0].text
                for number in (answer.json()["id"] for answer in asked):
                    job = running.wait_for(number, "succeeded", "failed")
                    assert (job.status, job.attempt, job.failure) == ("succeeded", 1, None)
                    assert client.get(f"/train-jobs/{number}/metrics").json()["images_seen"][-1] == job.total_images
                    assert _backends(running.postgres.url) <= SERVERS
                assert client.get("/models").status_code == 200
            for name in list(running.processes):
                running.end(name)
                log = (running.folder / f"{name}.log").read_text()
                assert "prepared statement" not in log, log
                assert "database is away" not in log, log
    finally:
        running.stop()
