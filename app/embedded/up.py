"""`darkroom up`: the private servers, the migrations and the API, started in order and ended in order."""

import errno
import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx
from sqlalchemy.exc import SQLAlchemyError

from app.embedded.postgres import PrivatePostgres
from app.embedded.process import ChildProcess, EmbeddedError
from app.embedded.redis import PrivateRedis
from app.embedded.state_lock import StateLock
from store.migrations import upgrade

INTERRUPTED = 130
"""Exit code after a second Ctrl-C, as shells have it."""


class _Interrupted(Exception):
    """Somebody asked for the end."""


class _KilledAtOnce(Exception):
    """Somebody asked for the end twice."""


class _StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP; waiting code asks it between two looks."""

    def __init__(self) -> None:
        self._count = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1

    def pause_until_asked(self, seconds: float) -> None:
        """Sleep; raises _Interrupted after the first request."""
        time.sleep(seconds)
        if self._count >= 1:
            raise _Interrupted

    def pause_while_stopping(self, seconds: float) -> None:
        """Sleep; raises _KilledAtOnce after the second request."""
        time.sleep(seconds)
        if self._count >= 2:
            raise _KilledAtOnce


def api_command(host: str, port: int) -> list[str]:
    """The command line of the API server."""
    return [
        *(sys.executable, "-m", "uvicorn", "app.main:app", "--host", host, "--port", str(port)),
        *("--timeout-graceful-shutdown", "20", "--no-access-log"),
    ]


def up(
    state: Path,
    host: str,
    port: int,
    *,
    command: Callable[[str, int], Sequence[str]] = api_command,
    ready_seconds: float = 300.0,
    drain_seconds: float = 30.0,
) -> int:
    """Run Darkroom until Ctrl-C or SIGTERM; the exit code is 0 after an orderly end, else not 0.

    state: folder for the servers' data, made when it is missing. DATABASE_URL and REDIS_URL in the environment
    stand in for the private servers. command: makes the API's command line from host and port.
    ready_seconds: until `/readyz` must answer 200. drain_seconds: how long requests may take to finish at the end;
    a second Ctrl-C kills at once. Every error is said on stderr. To be called from the main thread.
    """
    requests = _StopRequests()
    try:
        with StateLock(state) as lock, _signals(requests):
            _check_port(host, port, patience_seconds=2.0 if lock.previous_was_killed else 0.0)
            return _run(state, host, port, requests, command(host, port), ready_seconds, drain_seconds)
    except EmbeddedError as error:
        print(f"darkroom: {error}", file=sys.stderr, flush=True)
    except OSError as error:  # a full disk, a file of another owner
        print(f"darkroom: {error.filename or state}: {error.strerror}", file=sys.stderr, flush=True)
    return 1


def _run(
    state: Path,
    host: str,
    port: int,
    requests: _StopRequests,
    command: Sequence[str],
    ready_seconds: float,
    drain_seconds: float,
) -> int:
    postgres = None if os.environ.get("DATABASE_URL") else PrivatePostgres(state)
    redis = None if os.environ.get("REDIS_URL") else PrivateRedis(state)
    api: ChildProcess | None = None
    try:
        pause = requests.pause_until_asked
        if postgres:
            _say("starting PostgreSQL")
            postgres.start(pause)
        if redis:
            _say("starting Redis")
            redis.start(pause)
        database_url = postgres.url if postgres else os.environ["DATABASE_URL"]
        redis_url = redis.url if redis else os.environ["REDIS_URL"]
        pause(0.0)
        _say("migrating the database")
        _migrate(database_url)
        pause(0.0)
        _say("starting the API")
        (state / "logs").mkdir(exist_ok=True)
        api = ChildProcess(
            "the API",
            command,
            log=state / "logs" / "api.log",
            environment={"DATABASE_URL": database_url, "REDIS_URL": redis_url},
            parent_death_signal=signal.SIGKILL,
        )
        children = [
            api,
            *([postgres.process] if postgres and postgres.process else []),
            *([redis.process] if redis and redis.process else []),
        ]
        url = _url(host, port)
        _wait_until_ready(url, children, requests, ready_seconds)
        _say(f"ready at {url}  (Ctrl-C ends it; logs in {state / 'logs'})")
        while True:
            _check_alive(children)
            pause(0.1)
    except _Interrupted:
        try:
            _say("stopping")
            _stop(api, redis, postgres, requests, drain_seconds)
            _say("stopped")
            return 0
        except _KilledAtOnce:
            _say("killed")
            return INTERRUPTED
    except EmbeddedError:
        try:
            _stop(api, redis, postgres, requests, drain_seconds)
        except _KilledAtOnce:
            _say("killed")
        raise
    finally:
        # whatever happened above: nothing is left running (a child that has ended is not touched)
        if api and api.exit_code() is None:
            api.kill()
        if redis:
            redis.kill()
        if postgres:
            postgres.kill()


def _stop(
    api: ChildProcess | None,
    redis: PrivateRedis | None,
    postgres: PrivatePostgres | None,
    requests: _StopRequests,
    drain_seconds: float,
) -> None:
    """In the order of need: the API finishes its requests while the servers are still there."""
    if api and api.exit_code() is None:
        api.send(signal.SIGTERM)
        if not api.wait(drain_seconds, requests.pause_while_stopping):
            _say(f"the API did not finish its requests in {drain_seconds:g} s: killed")
            api.kill()
    if redis:
        redis.stop(pause=requests.pause_while_stopping)
    if postgres:
        postgres.stop(pause=requests.pause_while_stopping)


def _migrate(database_url: str) -> None:
    try:
        upgrade(database_url)
    except (SQLAlchemyError, ValueError) as error:
        raise EmbeddedError(f"cannot migrate the database: {error}") from error


def _wait_until_ready(
    url: str, children: Sequence[ChildProcess], requests: _StopRequests, ready_seconds: float
) -> None:
    end = time.monotonic() + ready_seconds
    with httpx.Client(trust_env=False, timeout=2.0) as client:
        while True:
            _check_alive(children)
            try:
                if client.get(f"{url}/readyz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # not listening yet, or busy loading
            if time.monotonic() >= end:
                raise EmbeddedError(f"the API is not ready after {ready_seconds:g} s:\n{children[0].log_tail()}")
            requests.pause_until_asked(0.1)


def _check_alive(children: Sequence[ChildProcess]) -> None:
    for child in children:
        code = child.exit_code()
        if code is not None:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise EmbeddedError(f"{child.name} {how}; the end of {child.log}:\n{child.log_tail()}")


def _check_port(host: str, port: int, *, patience_seconds: float) -> None:
    """Raise EmbeddedError when `port` cannot be listened on.

    patience_seconds: how long to wait for a killed predecessor's API to vanish.
    """
    if not 1 <= port <= 65535:
        raise EmbeddedError(f"port {port} is not between 1 and 65535")
    end = time.monotonic() + patience_seconds
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will: TIME_WAIT is free
                probe.bind(address)
                probe.listen()
            return
        except socket.gaierror as error:
            raise EmbeddedError(f"there is no host {host!r}: {error.strerror}") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise EmbeddedError(f"cannot listen on {host} port {port}: {error.strerror}") from error
            if time.monotonic() >= end:
                raise EmbeddedError(f"port {port} on {host} is in use; choose another one with --port") from error
            time.sleep(0.05)


def _url(host: str, port: int) -> str:
    """Where a browser on this machine finds a server that is bound to `host`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host or 'localhost'}:{port}"
    if address.is_unspecified:  # bound to every interface
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _say(line: str) -> None:
    try:
        print(f"darkroom: {line}", flush=True)
    except OSError:  # the terminal was closed: nobody reads on, and the end must be an orderly one all the same
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _signals(requests: _StopRequests) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, requests.note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
