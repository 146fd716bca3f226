"""Opens the service's database for an operator's command: DATABASE_URL, or the private server, which it may start."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.exc import OperationalError

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.embedded.process import EmbeddedError, make_state_private
from darkroom.model.machine.folder_lock import FolderHeld, state_lock
from darkroom.store.database import Database, Pool
from darkroom.store.migrations import require_current, upgrade
from darkroom.store.operator_settings import OperatorSettings, read_settings


@contextmanager
def operator_database(state: Path, *, new: bool, migrate: bool = False) -> Iterator[Database]:
    """Yield the database, which must be up to date. Raises UserError.

    state: the state folder of `darkroom up`. new: may create it, with its tables. migrate: brings it up to date, and
    raises NewerSchema when it belongs to a newer Darkroom.
    """
    with ExitStack() as until_done:
        settings = read_settings(OperatorSettings)
        url = settings.database_url
        try:
            if url is None:
                migrate = migrate or not PrivatePostgres(state).data.exists()
                url = until_done.enter_context(_private(state, new=new))
            (upgrade if migrate else require_current)(url)
            database = Database(url, Pool(1, 1), name="darkroom command", prepared=not settings.database_pooler)
        except (OperationalError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise EmbeddedError(
                f"cannot reach the database: {reason}; start its server, or correct DATABASE_URL"
            ) from error
        until_done.callback(database.dispose)
        yield database


@contextmanager
def _private(state: Path, *, new: bool) -> Iterator[str]:
    """Yield the URL of the state folder's own server, which runs during the block."""
    server = PrivatePostgres(state)
    if not server.data.exists():
        finding = f"no service has run on the state folder {state.resolve()}"
        if not new:
            raise EmbeddedError(f"{finding}: change to the service's folder, or give --state or DATABASE_URL")
        print(f"{finding}: creating it now", file=sys.stderr)
    with ExitStack() as until_done:
        try:
            until_done.enter_context(state_lock(state))
        except FolderHeld:  # a service runs on the folder, and its server too
            yield server.url
            return
        make_state_private(state)
        until_done.callback(server.stop)
        server.start()
        yield server.url
