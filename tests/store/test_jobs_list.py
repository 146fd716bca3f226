"""Laws of the queries on jobs: they use an index and never read or sort the whole table, so they stay fast."""

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select, update

from bench.jobs_list import analyse, described, fill, nodes, plans, queries
from darkroom.store.database import Database
from darkroom.store.job_repository import list_jobs
from darkroom.store.job_views import glimpse_jobs, view_jobs
from darkroom.store.tables import Job, Sweep

JOBS = 50_000
OF_MOST_JOBS = ("(kind = 'train')", "(status = 'succeeded')")
NAMES = tuple(queries(JOBS, 1))


@pytest.fixture(scope="module")
def filled(module_database_url: str) -> Iterator[Database]:
    """A database with many jobs, most of them finished."""
    database = Database(module_database_url)
    with database.session() as session:
        fill(session, JOBS)
        # some leases have lapsed
        session.execute(update(Job).where(Job.status == "running", Job.id % 3 == 0).values(lease_expires_at=func.now()))
    analyse(database)
    yield database
    database.dispose()


def _ids(database: Database) -> tuple[int, int]:
    with database.session() as session:
        return session.scalar(select(func.max(Job.id))) or 0, session.scalar(select(func.min(Sweep.id))) or 0


@pytest.mark.parametrize("name", NAMES)
def test_a_query_follows_an_index(filled: Database, name: str) -> None:
    found = plans(filled, queries(*_ids(filled))[name])
    assert found
    for plan in found:
        for node in nodes(plan):
            if node.get("Relation Name") == "jobs":
                assert node["Node Type"] != "Seq Scan", described(plan)
            if node["Node Type"] in ("Sort", "Incremental Sort", "Hash", "Materialize"):
                assert node["Plan Rows"] <= 1000, described(plan)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("list")])
def test_a_page_is_read_in_the_index_s_order(filled: Database, name: str) -> None:
    """PostgreSQL does not sort. It reads no record outside the page, unless most records in between are on the page."""
    (plan,) = plans(filled, queries(*_ids(filled))[name])
    kinds = [node["Node Type"] for node in nodes(plan)]
    assert kinds[0] == "Limit"
    assert set(kinds[1:]) <= {"Index Scan"}, described(plan)
    assert plan["Plans"][0].get("Filter", "").replace("::text", "") in ("", *OF_MOST_JOBS)


def test_what_lists_show_besides_is_looked_up_by_key(filled: Database) -> None:
    with filled.session() as session:
        jobs = list_jobs(session, kind="train", limit=50)
    for query in (
        lambda session: view_jobs(session, jobs),
        lambda session: glimpse_jobs(session, [one.id for one in jobs]),
    ):
        for plan in plans(filled, query):
            for node in nodes(plan):
                assert not (node.get("Relation Name") == "jobs" and node["Node Type"] == "Seq Scan"), described(plan)
