"""Laws of sessions and URLs."""

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.orm import Session

from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database, DatabaseAway, DatabaseBusy, DatabaseFull, Pool, parse_url
from darkroom.store.tables import Artifact, Checkpoint, Model


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_the_scheme_means_the_same_driver(scheme: str) -> None:
    url = parse_url(f"{scheme}://ada:s%40fe@db:5433/darkroom?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port, url.database) == ("ada", "s@fe", "db", 5433, "darkroom")
    assert url.query["sslmode"] == "require"


@pytest.mark.parametrize("url", ["mysql://db/darkroom", "sqlite:///x.db", "postgresql+asyncpg://db/x", "", "s3cret"])
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as refusal:
        parse_url(url)
    assert "s3cret" not in str(refusal.value)


def _put_and_stop(database: Database) -> None:
    with database.session() as session:
        Artifacts(session).put(b"bytes")
        raise RuntimeError("stop")


def test_a_session_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        _put_and_stop(database)
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == 0


def test_a_number_that_is_no_json_is_refused(session: Session) -> None:
    model = Model(name="digits")
    digest = Artifacts(session).put(b"bytes")
    checkpoint = Checkpoint(
        model=model,
        version=1,
        digest=digest,
        size_bytes=5,
        images_seen=0,
        source="trained",
        configuration={},
        class_names=[],
        metrics={"fid": float("nan")},
    )
    session.add(checkpoint)
    with pytest.raises((ValueError, StatementError), match="JSON"):
        session.flush()
    session.rollback()


CODES: dict[type[Exception], tuple[str, ...]] = {
    # it only reads (a failover), was shut down, crashed, starts, has too many connections, or lost the connection
    DatabaseAway: ("25006", "57P01", "57P02", "57P03", "53300", "08006"),
    DatabaseBusy: ("57014", "55P03", "40P01", "40001"),  # statement_timeout, lock_timeout, a deadlock
    DatabaseFull: ("53100",),
    SQLAlchemyError: ("23505", "42P01", "22003", "42501"),  # these would come again
}


def fault(database: Database, *statements: str) -> Exception:
    """Return the error of a transaction of these statements."""
    try:
        with database.session() as session:
            for statement in statements:
                session.execute(text(statement))
    except (DatabaseAway, SQLAlchemyError) as error:
        return error
    raise AssertionError("no error")


def test_errors_of_the_server_are_told_from_its_absence(database: Database) -> None:
    for kind, codes in CODES.items():
        for code in codes:
            found = fault(database, f"DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{code}'; END $$")
            assert type(found) is kind or (kind is SQLAlchemyError and isinstance(found, SQLAlchemyError)), code
            assert "as told" in str(found)
    assert type(fault(Database("postgresql://nobody@127.0.0.1:1/none"), "SELECT 1")) is DatabaseAway
    assert type(fault(database, "SET TRANSACTION READ ONLY", "DELETE FROM jobs")) is DatabaseAway
    assert type(fault(database, "SET LOCAL statement_timeout = 1", "SELECT pg_sleep(60)")) is DatabaseBusy
    assert type(fault(database, "SELECT pg_terminate_backend(pg_backend_pid())")) is DatabaseAway
    assert database.answers()


def test_what_only_reads_needs_no_transaction(database: Database) -> None:
    times = text("SELECT now() FROM pg_sleep(0.001)")  # of the transaction
    with database.session() as session:
        assert session.scalar(times) == session.scalar(times)
    with database.reading() as session:
        assert session.scalar(times) != session.scalar(times)
    assert type(fault(database, "SELECT pg_terminate_backend(pg_backend_pid())")) is DatabaseAway
    with database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_a_process_opens_no_more_connections_than_its_pool_has(database_url: str) -> None:
    database = Database(database_url, Pool(1, 1, wait_seconds=0.01), name="darkroom test")
    with database.session() as first, database.session() as second:
        first.execute(text("SELECT 1"))
        named = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'darkroom test'"
        assert second.scalar(text(named)) == database.pool_use().limit == 2
        with pytest.raises(DatabaseAway, match="QueuePool"), database.session() as third:
            third.execute(text("SELECT 1"))
    database.dispose()
