"""Bring a database's schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from darkroom.model.user_error import UserError
from darkroom.store.database import ADVISORY_LOCK, connecting_once

CONFIG_FILE = Path(__file__).resolve().parents[1] / "alembic.ini"

LOCK_MILLISECONDS = 10_000
"""A migration waits this long for a table. Meanwhile all others wait behind it, so it gives up and can be repeated."""


class NewerSchema(UserError):
    """The database has migrations of a newer Darkroom. This one can run on it (CONTRIBUTING.md, "A migration").

    found: what was found, without advice.
    """

    def __init__(self, revision: str, head: str) -> None:
        self.found = (
            f"the database belongs to a newer Darkroom (its revision is {revision}, and {head} is this one's newest)"
        )
        super().__init__(f"{self.found}: update Darkroom, or use another database or state folder")


def _require_known(script: ScriptDirectory, connection: Connection) -> str | None:
    """Return the database's revision, None before the first migration.

    Raises NewerSchema, and UserError for a revision that is neither known nor newer.
    """
    revision, head = MigrationContext.configure(connection).get_current_revision(), str(script.get_current_head())
    if revision is None or revision in {one.revision for one in script.walk_revisions()}:
        return revision
    if revision.isdigit() and int(revision) > int(head):
        raise NewerSchema(revision, head)
    raise UserError(
        f"the database has the unknown revision {revision}: it belongs to something that is not Darkroom; use another "
        "database"
    )


def require_current(url: str) -> None:
    """Raise UserError if the database lacks migrations. Changes nothing; a newer database is good. Other errors as
    for `upgrade`."""
    script = ScriptDirectory.from_config(Config(str(CONFIG_FILE)))
    with connecting_once(url).connect() as connection:
        try:
            revision = _require_known(script, connection)
        except NewerSchema:
            return
    if revision != script.get_current_head():
        raise UserError("the database is not up to date: run `darkroom migrate` with the account that owns its tables")


@contextmanager
def _locked(url: str) -> Iterator[Config]:
    """Alembic's configuration on a transaction that holds the lock, so that processes migrate one after the other.

    Lock and timeout end with the transaction, so a pooler in transaction mode may be between. An error in the block
    undoes everything.
    """
    with connecting_once(url).begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}"))  # not for the advisory lock above
        config = Config(str(CONFIG_FILE))
        config.attributes["connection"] = connection
        yield config


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at `url` up to `revision`. Does nothing when it is there already.

    Raises ValueError for a URL that is not PostgreSQL's, sqlalchemy.exc.OperationalError when no server answers.
    Raises NewerSchema for a database of a newer Darkroom. Raises UserError for an account that may not change the
    tables, and for a table that is in use for too long.
    """
    with _locked(url) as config:
        connection: Connection = config.attributes["connection"]
        _require_known(ScriptDirectory.from_config(config), connection)
        try:
            command.upgrade(config, revision)
        except ProgrammingError as error:
            if isinstance(error.orig, InsufficientPrivilege):
                raise UserError(
                    f"the database is not up to date, and this account may not change its tables ({error.orig}): run "
                    "`darkroom migrate` with the account that owns them"
                ) from error
            raise
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                raise UserError(
                    f"a long transaction uses a table that the migration changes ({error.orig}): nothing was changed; "
                    "run `darkroom migrate` again"
                ) from error
            raise


def downgrade(url: str, revision: str) -> None:
    """Migrate the database at `url` down to `revision`; "base" removes every table. Errors as for `upgrade`."""
    with _locked(url) as config:
        command.downgrade(config, revision)
