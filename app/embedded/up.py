"""`darkroom up`: starts the private servers, migrates the database, runs the API and the worker, and stops them all."""

import errno
import ipaddress
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import httpx
from sqlalchemy.exc import SQLAlchemyError

from darkroom.app.access.beyond_loopback import require_keys_beyond_loopback
from darkroom.app.embedded.device_list import Place, read_places
from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.embedded.process import ChildProcess, EmbeddedError, make_state_private
from darkroom.app.embedded.process_commands import api_command, reached_at, worker_commands
from darkroom.app.embedded.redis import PrivateRedis
from darkroom.app.embedded.supervised_process import SupervisedProcess
from darkroom.app.settings import Settings
from darkroom.model.machine.folder_lock import state_lock
from darkroom.model.user_error import EXIT_CODE, UserError
from darkroom.store.database import Database
from darkroom.store.migrations import upgrade
from darkroom.store.operator_settings import OperatorSettings, read_settings

INTERRUPTED = 130
"""Exit code after a second Ctrl-C, the one that shells use."""

STOPPING_NOTICE_SECONDS = 5.0
"""After this delay, tell the user why the worker is still stopping."""


class _Interrupted(Exception):
    """The user asked to stop."""


class _KilledAtOnce(Exception):
    """The user asked to stop for the second time."""


class _PartEnded(Exception):
    """A necessary part has ended or does not answer; the message names it and shows its log."""


class _StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP. Waiting code sleeps through its methods, which raise after a signal."""

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


@dataclass(frozen=True)
class Timeouts:
    """The most time for each phase. ready_seconds: until `/readyz` answers 200. drain_seconds: for the API's last
    requests. hand_back_seconds: for the worker to hand its job back (more than its own `grace_seconds`).
    restart_seconds: the least time between two starts of a worker.
    """

    ready_seconds: float = 300.0
    drain_seconds: float = 30.0
    hand_back_seconds: float = 130.0
    restart_seconds: float = 10.0


def up(
    state: Path,
    host: str,
    port: int,
    devices: str | None = None,
    *,
    api: Callable[[str, int], Sequence[str]] = api_command,
    workers: Callable[[], Mapping[str, Sequence[str]]] = worker_commands,
    timeouts: Timeouts | None = None,
) -> int:
    """Run Darkroom until Ctrl-C or SIGTERM. Returns the exit code: 0 after a clean stop, else not 0.

    state: folder for the servers' data, created if missing. DATABASE_URL and REDIS_URL in the environment replace the
    private servers. devices: see `read_places`; each gets an API, on `port` and the following ones, and a worker. api,
    workers: return the command lines. A worker or a server that ends is restarted, and so is one of several APIs. When
    the only API ends, everything stops, and stderr says why. A second Ctrl-C kills everything at once. Call this from
    the main thread. Raises UserError if it cannot start. While it runs, `service_address(state)` returns its address.
    """
    places = read_places(devices)
    requests = _StopRequests()
    try:
        with state_lock(state) as lock, _signals(requests):
            make_state_private(state)
            for place in places:
                _check_port(host, _port(port, place), wait_seconds=2.0 if lock.previous_was_killed else 0.0)
            lock.serve_at(local_url(host, port))
            timeouts = timeouts or Timeouts(drain_seconds=read_settings(Settings).drain_seconds + 10.0)
            apis = [api(host, _port(port, place)) for place in places]
            return _run(_Parts(state, host, port, places, requests, timeouts), apis, workers())
    except _PartEnded as error:
        print(f"darkroom: {error}", file=sys.stderr, flush=True)
    return 1


def _run(parts: "_Parts", apis: Sequence[Sequence[str]], workers: Mapping[str, Sequence[str]]) -> int:
    try:
        parts.start(apis, workers)
        parts.watch()
        return 0
    except _Interrupted:
        try:
            _say("stopping")
            parts.stop()
            _say("stopped")
            return 0
        except _KilledAtOnce:
            _say("killed")
            return INTERRUPTED
    except (UserError, _PartEnded):
        try:
            parts.stop()
        except _KilledAtOnce:
            _say("killed")
        raise
    finally:
        parts.kill()  # leaves nothing running, whatever happened above


class _Parts:
    """The running parts: PostgreSQL, Redis, an API and a worker for each place, and the reconciler."""

    def __init__(
        self,
        state: Path,
        host: str,
        port: int,
        places: Sequence[Place],
        requests: _StopRequests,
        timeouts: Timeouts,
    ) -> None:
        self._state = state
        self._host = host
        self._port = port
        self._places = places
        self._reached_at = reached_at(host)
        self._requests = requests
        self._timeouts = timeouts
        given = read_settings(OperatorSettings)
        self._postgres = None if given.database_url else PrivatePostgres(state)
        self._redis = None if given.redis_url else PrivateRedis(state)
        self._given = given
        self._apis: list[SupervisedProcess] = []
        self._workers: list[SupervisedProcess] = []
        self._servers_tried_at = -math.inf
        self._ready = False

    def start(self, apis: Sequence[Sequence[str]], workers: Mapping[str, Sequence[str]]) -> None:
        """Start each part after those that it needs; API and workers together, because their imports take seconds."""
        pause = self._requests.pause_until_asked
        if self._postgres:
            _say("starting PostgreSQL")
            self._postgres.start(pause)
        if self._redis:
            _say("starting Redis")
            self._redis.start(pause)
        database_url = self._postgres.url if self._postgres else str(self._given.database_url)
        redis_url = self._redis.url if self._redis else str(self._given.redis_url)
        pause(0.0)
        _say("migrating the database")
        _migrate(database_url)
        _check_keys(self._reached_at, database_url)
        pause(0.0)
        _say("starting the API, which warms up its models first, and the worker")
        urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        folders = {
            "DARKROOM_STATE_FOLDER": os.environ.get("DARKROOM_STATE_FOLDER", str(self._state.absolute())),
            "DARKROOM_HOST": self._reached_at,
        }
        for place, command in zip(self._places, apis, strict=True):
            self._apis.append(self._supervised(f"API{place.suffix}", command, urls | folders | place.environment))
        for name, command in workers.items():
            for place in self._places if name == "worker" else self._places[:1]:
                settings = urls | self._worker_settings(place) | place.environment
                self._workers.append(self._supervised(f"{name}{place.suffix}", command, settings))

    def watch(self) -> None:
        """Watch the parts until the user asks to stop. Raises _PartEnded if a necessary part ends before."""
        urls = [local_url(self._host, _port(self._port, place)) for place in self._places]
        end = time.monotonic() + self._timeouts.ready_seconds
        several = self._apis if len(self._apis) > 1 else []
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            while True:
                self._check_alive()
                self._start_servers_again()
                for part in (*several, *self._workers):
                    part.restart_if_due()
                if not self._ready:
                    waiting = [api for api, url in zip(self._apis, urls, strict=True) if not _is_ready(client, url)]
                    self._ready = not waiting
                    if self._ready:
                        _say(f"ready at {', '.join(urls)}  (Ctrl-C stops it; logs in {self._state / 'logs'})")
                    elif time.monotonic() >= end:
                        seconds, late = self._timeouts.ready_seconds, waiting[0].child
                        raise _PartEnded(f"{late.name} is not ready after {seconds:g} s:\n{late.log_tail()}")
                self._requests.pause_until_asked(0.1)

    def stop(self) -> None:
        """Stop the API and the workers first, because they need the servers to finish requests and hand jobs back."""
        pause = self._requests.pause_while_stopping
        timeouts = self._timeouts
        apis, workers = ([part.child for part in parts] for parts in (self._apis, self._workers))
        if self._postgres and self._postgres.process and self._postgres.process.exit_code() is not None:
            self._kill_workers()  # without PostgreSQL they cannot store anything
        asked = time.monotonic()
        for child in [*apis, *workers]:
            child.send(signal.SIGTERM)
        for child in apis:
            if not child.wait(asked + timeouts.drain_seconds - time.monotonic(), pause):
                _say(f"{child.name} did not finish its requests in {timeouts.drain_seconds:g} s; killing it")
                child.kill()
        for child in workers:
            if not child.wait(min(STOPPING_NOTICE_SECONDS, timeouts.hand_back_seconds), pause):
                _say(f"{child.name} is still ending: a running job stores a checkpoint first (Ctrl-C again kills all)")
            if not child.wait(asked + timeouts.hand_back_seconds - time.monotonic(), pause):
                _say(f"{child.name} did not end in {timeouts.hand_back_seconds:g} s; killing it")
                child.kill()
        if self._redis:
            self._redis.stop(pause=pause)
        if self._postgres:
            self._postgres.stop(pause=pause)

    def kill(self) -> None:
        """Kill every part that still runs."""
        for api in self._apis:
            if api.child.exit_code() is None:
                api.child.kill()
        self._kill_workers()
        if self._redis:
            self._redis.kill()
        if self._postgres:
            self._postgres.kill()

    def _kill_workers(self) -> None:
        for worker in self._workers:
            if worker.child.exit_code() is None:
                worker.child.kill()

    def _supervised(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> SupervisedProcess:
        start = partial(self._child, name, command, environment)
        return SupervisedProcess(start, spacing_seconds=self._timeouts.restart_seconds, say=_say)

    def _child(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> ChildProcess:
        return ChildProcess(
            f"the {name}",
            command,
            log=self._state / "logs" / f"{name.lower()}.log",
            environment=environment,
            parent_death_signal=signal.SIGKILL,
        )

    def _worker_settings(self, place: Place) -> dict[str, str]:
        """Return the worker's settings: those of the environment, and defaults for the others."""
        defaults = {
            "DARKROOM_CACHE_FOLDER": str(self._state.resolve() / "datasets"),
            "DARKROOM_WORKER_NAME": f"{socket.gethostname()}:{self._port}",
        }
        settings = {name: os.environ.get(name, value) for name, value in defaults.items()}
        return settings | {"DARKROOM_WORKER_NAME": settings["DARKROOM_WORKER_NAME"] + place.suffix}

    def _check_alive(self) -> None:
        """Raise when the only API has ended, or when a part cannot start. One of several APIs may end once all were
        ready, as when its device is lost: the others go on."""
        necessary = self._apis if len(self._apis) == 1 or not self._ready else []
        for child in (part.child for part in (*necessary, *self._workers)):
            if child.exit_code() == EXIT_CODE:  # the last line of its log is a message for the user
                raise EmbeddedError(f"{child.name} cannot start: {child.log_tail(1).removeprefix('error: ')}")
        for api in (part.child for part in necessary):
            if fate := api.fate():
                raise _PartEnded(f"{api.name} {fate}; the end of {api.log}:\n{api.log_tail()}")

    def _start_servers_again(self) -> None:
        """Restart PostgreSQL or Redis if it has ended. API and workers survive that; only hints and uncommitted
        transactions are lost."""
        for server in (self._postgres, self._redis):
            child = server.process if server else None
            if server is None or child is None or (fate := child.fate()) is None:
                continue
            if time.monotonic() - self._servers_tried_at < self._timeouts.restart_seconds:
                continue
            self._servers_tried_at = time.monotonic()
            _say(f"{child.name} {fate}; restarting it (log: {child.log})")
            try:
                server.start(self._requests.pause_until_asked)
            except (EmbeddedError, OSError) as error:
                _say(f"{child.name} cannot start: {error}")


def _port(first: int, place: Place) -> int:
    return first + place.number - 1


def _is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:  # not listening yet, or busy loading
        return False


def _migrate(database_url: str) -> None:
    try:
        upgrade(database_url)
    except (SQLAlchemyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise EmbeddedError(
            f"cannot migrate the database: {reason}; start its server or correct DATABASE_URL"
        ) from error


def _check_keys(host: str, database_url: str) -> None:
    database = Database(database_url, prepared=False)  # there may be a pooler between
    try:
        require_keys_beyond_loopback(host, database)
    finally:
        database.dispose()


def _check_port(host: str, port: int, *, wait_seconds: float) -> None:
    """Raise EmbeddedError when the API cannot listen on `port`.

    wait_seconds: how long to wait for the API of a killed predecessor to end.
    """
    if not 1 <= port <= 65535:
        raise EmbeddedError(f"port {port} is not between 1 and 65535")
    end = time.monotonic() + wait_seconds
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like the server, which ignores TIME_WAIT
                probe.bind(address)
                probe.listen()
            return
        except socket.gaierror as error:
            raise EmbeddedError(
                f"the host {host!r} is unknown: {error.strerror}; name another one with --host"
            ) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                detail = f"cannot listen on {host} port {port}: {error.strerror}"
                raise EmbeddedError(f"{detail}; choose others with --host and --port") from error
            if time.monotonic() >= end:
                raise EmbeddedError(f"port {port} on {host} is in use; choose another one with --port") from error
            time.sleep(0.05)


def local_url(host: str, port: int) -> str:
    """Return the URL, for a browser on this machine, of a server that is bound to `host`."""
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
    except OSError:  # the terminal was closed, but Darkroom must still stop cleanly
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _signals(requests: _StopRequests) -> Iterator[None]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if (
        signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    ):  # nohup ignores it, so that Darkroom outlives the terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, requests.note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
