"""Runs PgBouncer with the configuration that Darkroom ships, between tests and their PostgreSQL."""

import configparser
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from darkroom.app.embedded.account import service_account
from darkroom.app.embedded.process import ChildProcess
from darkroom.store.database import Database, Pool, parse_url
from tests.processes import free_port, wait_until
from tests.programs import program

SHIPPED = Path(__file__).parents[1] / "deploy" / "pgbouncer" / "pgbouncer.ini"
PASSWORD = "secret"


@contextmanager
def pgbouncer(url: str, folder: Path, pool_size: int) -> Iterator[str]:
    """Yield the DATABASE_URL of a PgBouncer in transaction mode. It holds at most `pool_size` connections to `url`."""
    path = program("pgbouncer", package="pgbouncer")
    server, port = parse_url(url), free_port()
    folder.mkdir(mode=0o755, parents=True)
    settings = configparser.ConfigParser()
    settings.read(SHIPPED)
    settings["databases"][str(server.database)] = f"host={server.query['host']} port=5432"
    users = folder / "users"
    users.write_text(f'"{server.username}" "{PASSWORD}"\n')
    settings["pgbouncer"].update(
        listen_addr="127.0.0.1",
        listen_port=str(port),
        auth_file=str(users),
        default_pool_size=str(pool_size),
        unix_socket_dir="",
    )
    file = folder / "pgbouncer.ini"
    with file.open("w") as stream:
        settings.write(stream)
    account = service_account(folder)  # like PostgreSQL, it refuses to run as root
    if account is not None:
        for one in (users, file):
            os.chown(one, account.uid, account.gid)
    process = ChildProcess(
        "PgBouncer",
        [path, str(file)],
        log=folder / "logs" / "pgbouncer.log",
        parent_death_signal=signal.SIGKILL,
        account=account,
    )
    pooled = server.set(drivername="postgresql", host="127.0.0.1", port=port, password=PASSWORD, query={})
    address = pooled.render_as_string(hide_password=False)
    try:
        probe = Database(address, Pool(1, 0), prepared=False)
        wait_until(lambda: process.exit_code() is not None or probe.answers(), "PgBouncer answers")
        assert process.exit_code() is None, process.log_tail()
        probe.dispose()
        yield address
    finally:
        process.kill()
