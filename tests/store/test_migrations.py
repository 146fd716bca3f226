"""Laws of the migrations."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import NullPool, create_engine, inspect
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from store.checkpoint_repository import checkpoint_bytes, register_checkpoint
from store.database import Database, parse_url
from store.migrations import downgrade, upgrade
from store.model_repository import resolve
from store.tables import Base


def _tables(url: str) -> set[str]:
    with create_engine(parse_url(url), poolclass=NullPool).connect() as connection:
        return set(inspect(connection).get_table_names())


def _constraints(url: str) -> set[str]:
    with create_engine(parse_url(url), poolclass=NullPool).connect() as connection:
        inspector = inspect(connection)
        names = {
            str(check["name"]) for table in Base.metadata.tables for check in inspector.get_check_constraints(table)
        }
        return names | {str(inspector.get_pk_constraint(table)["name"]) for table in Base.metadata.tables}


def _add_row(url: str) -> None:
    database = Database(url)
    with database.session() as session:
        register_checkpoint(
            session,
            model_name="digits",
            data=b"weights",
            configuration={},
            class_names=["zero"],
            images_seen=1,
            metrics={},
            source="shipped",
        )
    with database.session() as session:
        assert checkpoint_bytes(session, resolve(session, "digits")) == b"weights"
    database.dispose()


def test_the_migrated_schema_is_the_one_of_the_tables(database_url: str, empty_database_url: str) -> None:
    with create_engine(parse_url(database_url), poolclass=NullPool).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": Base.metadata}
        )
        assert compare_metadata(context, Base.metadata) == []
    # the comparison passes over check constraints and primary keys' names: compare with what the tables would create
    engine = create_engine(parse_url(empty_database_url), poolclass=NullPool)
    Base.metadata.create_all(engine)
    assert _constraints(database_url) == _constraints(empty_database_url)


def test_down_and_up_again_with_rows_present(empty_database_url: str) -> None:
    for _ in range(2):
        upgrade(empty_database_url)
        _add_row(empty_database_url)
        downgrade(empty_database_url, "base")
        assert _tables(empty_database_url) == {"alembic_version"}


def test_upgrading_again_keeps_the_rows(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    _add_row(empty_database_url)
    upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.session() as session:
        assert checkpoint_bytes(session, resolve(session, "digits")) == b"weights"
    database.dispose()


def test_two_starters_do_not_collide(empty_database_url: str) -> None:
    start = threading.Barrier(2)
    errors: list[SQLAlchemyError] = []

    def migrate() -> None:
        start.wait()
        try:
            upgrade(empty_database_url)
        except SQLAlchemyError as error:
            errors.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert "models" in _tables(empty_database_url)


def test_no_server_is_an_error() -> None:
    with pytest.raises(OperationalError):
        upgrade("postgresql://nobody@/nothing?host=/nonexistent")
