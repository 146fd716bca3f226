"""Laws of the threads for requests: at most as many wait as the database has connections, and others stay free."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from sqlalchemy import text

from darkroom.store.database import Database
from tests.app.served import serving, weights_folder
from tests.processes import PATIENCE_SECONDS, wait_until

PROBES = ("/healthz", "/readyz", "/metrics")
PAGES = ("/", "/console/src/main.js", "/docs", "/docs/assets/swagger-ui.css")


def _threads() -> int:
    return sum(thread.name == "AnyIO worker thread" for thread in threading.enumerate())


def _waiting(database: Database) -> int:
    """Return how many statements on data sets wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM datasets%'"
    with database.session() as session:
        return session.scalar(text(query)) or 0


def test_requests_that_wait_for_the_database_leave_threads_for_others(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    connections = database.pool_use().limit
    before = _threads()
    with serving(weights_folder(tmp_path), database_url=database_url) as service:

        def ask(_: int) -> int:
            url = f"{service.url}/v1/datasets"
            return httpx.get(url, timeout=PATIENCE_SECONDS, trust_env=False).status_code

        with ThreadPoolExecutor(3 * connections) as pool, database.session() as blocking:
            blocking.execute(text("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE"))
            asked = [pool.submit(ask, number) for number in range(3 * connections)]
            wait_until(lambda: _waiting(database) == connections, "every connection waits")
            for path in (*PROBES, *PAGES):
                assert service.client.get(path).status_code == 200, path
            assert service.images(seed=1).shape[0] == 1
            assert not any(one.done() for one in asked)
            assert _threads() <= before + connections
            blocking.rollback()
        assert {one.result() for one in asked} == {200}
