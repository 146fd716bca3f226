"""Bring a database's schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, text

from store.database import parse_url

CONFIG_FILE = Path(__file__).resolve().parents[1] / "alembic.ini"
ADVISORY_LOCK = 0x6461726B726F6F6D
"""The bytes of "darkroom" as one number; any constant that others do not use."""


@contextmanager
def _locked(url: str) -> Iterator[Config]:
    """Alembic's configuration on a connection that holds the lock; starters at the same time wait for one another."""
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()  # the lock belongs to the connection, not to a transaction, and ends with it
        config = Config(str(CONFIG_FILE))
        config.attributes["connection"] = connection
        yield config


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at `url` up to `revision`; does nothing when it is there already.

    Raises ValueError for a URL that is not PostgreSQL's and sqlalchemy.exc.OperationalError when no server answers.
    """
    with _locked(url) as config:
        command.upgrade(config, revision)


def downgrade(url: str, revision: str) -> None:
    """Migrate the database at `url` down to `revision`; "base" removes every table. Errors as for `upgrade`."""
    with _locked(url) as config:
        command.downgrade(config, revision)
