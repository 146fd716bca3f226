"""Laws of counters: a total is the sum of its parts, and no transaction waits for another one that counts the same."""

from contextlib import ExitStack

from sqlalchemy import func, select, text

from darkroom.store.counters import SLOTS, count, read_counters
from darkroom.store.database import Database, Pool
from darkroom.store.migrations import downgrade, upgrade
from darkroom.store.tables import Counter


def test_two_transactions_count_the_same_without_waiting(database_url: str) -> None:
    database = Database(database_url, Pool(5, 0))
    with ExitStack() as until_done:
        slots = set()
        while len(slots) < 2:  # two connections may have one slot
            session = until_done.enter_context(database.session())
            session.execute(text("SET LOCAL lock_timeout = '30s'"))
            slot = session.scalar(select(func.pg_backend_pid() % SLOTS))
            if slot not in slots:
                count(session, "attempts", "succeeded")
                slots.add(slot)
    with database.session() as session:
        assert read_counters(session) == {("attempts", "succeeded"): 2.0}
    database.dispose()


def test_a_total_has_what_every_version_counted_also_after_a_downgrade(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    database = Database(empty_database_url, Pool(1, 0))
    for _ in range(2):
        with database.session() as session:
            session.merge(Counter(name="lease_lapses", label="", value=3.0))  # as the version before counted
            count(session, "lease_lapses", by=2.0)
            count(session, "lease_lapses")
            assert read_counters(session) == {("lease_lapses", ""): 6.0}
        downgrade(empty_database_url, "0015")
        with database.session() as session:
            assert session.scalars(select(Counter.value)).all() == [6.0]
        upgrade(empty_database_url)
        with database.session() as session:
            assert read_counters(session) == {("lease_lapses", ""): 6.0}
    database.dispose()
