"""The service's database for a command beside it: DATABASE_URL, or the private server, started when it rests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from app.embedded.postgres import PrivatePostgres
from app.embedded.process import EmbeddedError
from app.embedded.state_lock import StateLock
from store.database import Database
from store.migrations import upgrade
from store.operator_settings import OperatorSettings


def operator_settings() -> OperatorSettings:
    """What the environment says of servers. Raises EmbeddedError."""
    try:
        return OperatorSettings()
    except ValidationError as error:  # a password's file that cannot be read
        raise EmbeddedError("; ".join(fault["msg"] for fault in error.errors())) from error


@contextmanager
def operator_database(state: Path) -> Iterator[Database]:
    """The migrated database. state: as `darkroom up` has it. Raises EmbeddedError."""
    with ExitStack() as until_done:
        url = operator_settings().database_url
        try:
            url = url or until_done.enter_context(_private(state))
            upgrade(url)
            database = Database(url)
        except (OperationalError, ValueError) as error:
            raise EmbeddedError(f"the database cannot be reached: {error}") from error
        until_done.callback(database.dispose)
        yield database


@contextmanager
def _private(state: Path) -> Iterator[str]:
    """The address of the state folder's own server, running."""
    server = PrivatePostgres(state)
    with ExitStack() as until_done:
        try:
            until_done.enter_context(StateLock(state))
        except EmbeddedError:  # a service runs on it, and its server with it
            yield server.url
            return
        until_done.callback(server.stop)
        server.start()
        yield server.url
