"""The service's database for a command beside it: DATABASE_URL, or the private server, started when it rests."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.exc import OperationalError

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.embedded.process import EmbeddedError
from darkroom.model.machine.folder_lock import FolderHeld, state_lock
from darkroom.store.database import Database
from darkroom.store.migrations import upgrade
from darkroom.store.operator_settings import OperatorSettings, read_settings


@contextmanager
def operator_database(state: Path, *, new: bool) -> Iterator[Database]:
    """The migrated database. state: as `darkroom up` has it; new: whether it may be made. Raises UserError."""
    with ExitStack() as until_done:
        url = read_settings(OperatorSettings).database_url
        try:
            url = url or until_done.enter_context(_private(state, new=new))
            upgrade(url)
            database = Database(url)
        except (OperationalError, ValueError) as error:
            raise EmbeddedError(f"the database cannot be reached: {str(error).splitlines()[0]}") from error
        until_done.callback(database.dispose)
        yield database


@contextmanager
def _private(state: Path, *, new: bool) -> Iterator[str]:
    """The address of the state folder's own server, running."""
    server = PrivatePostgres(state)
    if not server.data.exists():
        where = f"no service has run on the state folder {state.resolve()}"
        if not new:
            raise EmbeddedError(f"{where}: go to the folder of the service, or name its own by --state or DATABASE_URL")
        print(f"{where}: it is made now", file=sys.stderr)
    with ExitStack() as until_done:
        try:
            until_done.enter_context(state_lock(state))
        except FolderHeld:  # a service runs on it, and its server with it
            yield server.url
            return
        until_done.callback(server.stop)
        server.start()
        yield server.url
