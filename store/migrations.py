"""Bring a database's schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import ProgrammingError

from darkroom.model.user_error import UserError
from darkroom.store.database import ADVISORY_LOCK, parse_url

CONFIG_FILE = Path(__file__).resolve().parents[1] / "alembic.ini"


@contextmanager
def _locked(url: str) -> Iterator[Config]:
    """Alembic's configuration on a connection that holds the lock, so that processes migrate one after the other."""
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()  # the lock belongs to the connection, not to a transaction
        config = Config(str(CONFIG_FILE))
        config.attributes["connection"] = connection
        yield config


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at `url` up to `revision`. Does nothing when it is there already.

    Raises ValueError for a URL that is not PostgreSQL's, sqlalchemy.exc.OperationalError when no server answers, and
    UserError for a database of a newer Darkroom, and for an account that may not change the tables.
    """
    with _locked(url) as config:
        try:
            command.upgrade(config, revision)
        except CommandError as error:  # a revision that is not in alembic/versions
            raise UserError(
                f"the database belongs to another version of Darkroom ({error}): update Darkroom, or use another "
                "database or state folder"
            ) from error
        except ProgrammingError as error:
            if isinstance(error.orig, InsufficientPrivilege):
                raise UserError(
                    f"the database is not up to date, and this account may not change its tables ({error.orig}): run "
                    "`darkroom migrate` with the account that owns them"
                ) from error
            raise


def downgrade(url: str, revision: str) -> None:
    """Migrate the database at `url` down to `revision`; "base" removes every table. Errors as for `upgrade`."""
    with _locked(url) as config:
        command.downgrade(config, revision)
