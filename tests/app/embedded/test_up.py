"""Laws of `up`, on real servers: it loses no data, leaves no process behind, and every refusal says why."""

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from darkroom.app.embedded.postgres import socket_folder
from darkroom.app.embedded.up import local_url, up
from darkroom.model.machine.folder_lock import service_address
from darkroom.model.user_error import UserError
from darkroom.store.database import Database
from darkroom.store.hints import broker_answers
from tests import warm
from tests.processes import family_of, free_port, free_ports, living

ROOT = Path(__file__).resolve().parents[3]
RUN_UP = Path(__file__).with_name("run_up.py")
PATIENCE_SECONDS = 90.0


class Up:
    """A running `up`; collects its lines of output."""

    def __init__(self, state: Path, port: int, *more: str, **environment: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        self.port = port
        self.lines: list[str] = []
        self.process = warm.Popen(
            [sys.executable, str(RUN_UP), str(state), str(port), *more],
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, words: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not any(words in line for line in self.lines):
            assert time.monotonic() < end, f"no line has {words!r}: {self.lines}"
            assert self.process.poll() is None or self._reader.is_alive(), (
                f"`up` ended before a line with {words!r}: {self.lines}"
            )
            time.sleep(0.05)

    def end(self) -> int:
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        return code

    def get(self, path: str, replica: int = 1) -> bytes:
        url = f"http://127.0.0.1:{self.port + replica - 1}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
            body: bytes = answer.read()
            return body

    def urls(self) -> tuple[str, str]:
        given = json.loads(self.get("/environment"))
        return given["DATABASE_URL"], given["REDIS_URL"]


@contextmanager
def _running(state: Path, *more: str, **environment: str) -> Iterator[Up]:
    started = Up(state, free_ports(2), *more, **environment)
    try:
        started.wait_for("ready at")
        yield started
    finally:
        if started.process.poll() is None:
            started.process.terminate()
        started.end()


def _all_end(pids: set[int]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while living(pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose path is too long for a socket and has characters that need quoting."""
    return tmp_path_factory.mktemp("up") / ("deep " * 25 + "'%&") / ".darkroom"


def test_after_sigkill_no_process_is_left_and_no_record_is_lost(state: Path) -> None:
    with _running(state) as killed:
        database_url, redis_url = killed.urls()
        with psycopg.connect(database_url) as connection:
            connection.execute("INSERT INTO models (name) VALUES ('kept')")
        redis.Redis.from_url(redis_url).set("hint", "kept")
        time.sleep(1.5)  # Redis writes its file to disk every second
        _wait_for_log(state, "worker", "datasets")
        family = family_of(killed.process.pid)
        assert len(family) > 7  # itself, PostgreSQL, Redis, the API, two workers with a child each
        killed.process.kill()
        assert killed.end() == -signal.SIGKILL
        assert _all_end(family)
    with _running(state) as again:
        database_url, redis_url = again.urls()
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT name FROM models").fetchall() == [("kept",)]
        assert redis.Redis.from_url(redis_url).get("hint") == b"kept"


def test_servers_left_by_an_earlier_run_are_ended_and_replaced(state: Path) -> None:
    with _running(state) as first:
        pass
    # the pid files name a process that is not ours: it neither prevents the start nor is it killed
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (state / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n", encoding="ascii")
        (state / "redis" / "redis.pid").write_text(f"{stranger.pid}\n", encoding="ascii")
        with _running(state):
            assert stranger.poll() is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    assert first.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_lets_the_api_finish_and_stops_everything(state: Path, number: signal.Signals) -> None:
    with _running(state) as running:
        family = family_of(running.process.pid)
        answers: list[bytes] = []
        request = threading.Thread(target=lambda: answers.append(running.get("/slow")))
        request.start()
        _wait_for_log(state, "api", "slow request begun")
        running.process.send_signal(number)
        assert running.end() == 0
        request.join()
        assert answers == [b""]
        assert _all_end(family)
        assert not socket_folder(state.resolve()).exists()
        assert running.lines[-2:] == ["darkroom: stopping", "darkroom: stopped"]
        for name in ("worker", "reconciler"):
            assert _log(state, name).endswith(f"{name} was asked to end\n{name} has handed back\n")


def test_a_second_ctrl_c_does_not_wait_for_the_api(state: Path) -> None:
    with _running(state, SLOW_SECONDS="600") as running:
        family = family_of(running.process.pid)
        outcome: list[str] = []

        def request() -> None:
            try:
                running.get("/slow")
            except OSError as error:
                outcome.append(type(error).__name__)

        thread = threading.Thread(target=request)
        thread.start()
        _wait_for_log(state, "api", "slow request begun")
        running.process.send_signal(signal.SIGINT)
        running.wait_for("stopping")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 130
        thread.join()
        assert len(outcome) == 1
        assert _all_end(family)
        assert not any("did not finish" in line for line in running.lines)


def test_a_second_ctrl_c_does_not_wait_for_the_worker(state: Path) -> None:
    with _running(state, HAND_BACK_SECONDS="600") as running:
        _wait_for_log(state, "worker", "datasets")
        family = family_of(running.process.pid)
        running.process.send_signal(signal.SIGINT)
        running.wait_for("the worker is still ending")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 130
        assert _all_end(family)


def test_a_worker_that_does_not_end_in_time_is_killed_and_the_rest_ends_in_order(state: Path) -> None:
    with _running(state, HAND_BACK_SECONDS="600", HAND_BACK_LIMIT_SECONDS="1") as running:
        for name in ("worker", "reconciler"):
            _wait_for_log(state, name, "datasets")
        family = family_of(running.process.pid)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        for name in ("worker", "reconciler"):
            assert f"darkroom: the {name} did not end in 1 s; killing it" in running.lines
        assert running.lines[-1] == "darkroom: stopped"
        assert _all_end(family)


@pytest.mark.parametrize("name", ["worker", "reconciler"])
def test_a_worker_that_dies_is_started_again_and_the_api_goes_on(state: Path, name: str) -> None:
    with _running(state) as running:
        said = f"darkroom: the {name} was killed by SIGKILL; restarting it (log: {_log_path(state, name)})"
        for times in range(1, 4):
            _wait(lambda: len(_family_of_worker(running, name)) == 2)
            family = _family_of_worker(running, name)
            os.kill(family[0], signal.SIGKILL)
            assert _all_end(set(family))
            _wait(lambda times=times: running.lines.count(said) == times)
            assert running.get("/readyz") == b""
        _wait(lambda: len(_family_of_worker(running, name)) == 2)


def _family_of_worker(running: Up, name: str) -> list[int]:
    """Return the processes of a running worker, itself first."""
    ending = f"stand_in_worker.py {name} ".encode()
    for pid in living(family_of(running.process.pid)):
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").endswith(ending):
                return [pid, *(family_of(pid) - {pid})]
    return []


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("", "localhost")],
)
def test_a_listening_address_becomes_a_url_that_a_browser_can_open(host: str, address: str) -> None:
    assert local_url(host, 8400) == f"http://{address}:8400"


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_other_commands_find_the_running_service_s_address(tmp_path: Path, host: str, address: str) -> None:
    told: list[str | None] = []

    def look(host: str, port: int) -> list[str]:
        told.append(service_address(tmp_path / "state"))
        raise UserError("seen")

    port = free_port()
    with pytest.raises(UserError, match="seen"):
        up(tmp_path / "state", host, port, api=look)
    assert told == [f"http://{address}:{port}"]
    assert service_address(tmp_path / "state") is None


def test_a_worker_gets_its_name_and_cache_folder(state: Path) -> None:
    with _running(state) as running:
        _wait_for_log(state, "worker", "datasets")
        told = _log(state, "worker").splitlines()[-1]
        assert told == f"worker of {socket.gethostname()}:{running.port} with {state.resolve() / 'datasets'}"
    with _running(state, DARKROOM_WORKER_NAME="first", DARKROOM_CACHE_FOLDER="/elsewhere/datasets"):
        _wait_for_log(state, "worker", "datasets")
        assert _log(state, "worker").splitlines()[-1] == "worker of first with /elsewhere/datasets"


def test_no_other_account_can_read_the_state_folder_not_even_an_old_one(state: Path) -> None:
    logs = state / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    logs.chmod(0o755)
    (logs / "old.log").write_text("old")
    (logs / "old.log").chmod(0o644)
    state.chmod(0o755)
    with _running(state):
        _wait_for_log(state, "worker", "datasets")
        modes = {path: path.stat().st_mode & 0o777 for path in state.rglob("*") if not path.is_symlink()}
    assert state.stat().st_mode & 0o066 == 0
    assert {"logs", "datasets", "postgres", "redis"} <= {path.name for path in modes}
    private = {path: mode for path, mode in modes.items() if path.parent == state or path.parent == logs}
    assert {path.name: oct(mode) for path, mode in private.items() if mode & 0o077 and path.name != "lock"} == {}


def test_when_the_api_dies_its_log_is_shown_and_the_rest_ends(state: Path) -> None:
    with _running(state) as running:
        family = family_of(running.process.pid)
        with pytest.raises(http.client.RemoteDisconnected):
            running.get("/end")
        assert running.end() == 1
        output = "\n".join(running.lines)
        assert "the API ended with exit code 3" in output
        assert "the stand-in was told to end" in output
        assert _all_end(family)


def test_each_device_has_an_api_and_a_worker_and_the_others_go_on_when_one_api_dies(state: Path) -> None:
    with _running(state, "127.0.0.1", "cpu,cpu", DARKROOM_WORKER_NAME="lab", DARKROOM_METRICS_PORT="9101") as running:
        family = family_of(running.process.pid)
        assert any(line.count(f"http://127.0.0.1:{running.port + 1} ") for line in running.lines)
        told = [json.loads(running.get("/environment", replica)) for replica in (1, 2)]
        assert [one["DARKROOM_METRICS_PORT"] for one in told] == ["9101", "9102"]
        for name, own in (("worker", "lab"), ("worker-2", "lab-2")):
            _wait_for_log(state, name, f"worker of {own} with {state.resolve() / 'datasets'}")
        assert not _log_path(state, "reconciler-2").exists()
        for replica in (1, 2):
            with pytest.raises(http.client.RemoteDisconnected):
                running.get("/end", replica)
            assert running.get("/readyz", 3 - replica) == b""
            name = "API" if replica == 1 else "API-2"
            running.wait_for(f"the {name} ended with exit code 3; restarting it")
            _wait(lambda replica=replica: _answers(running, replica))
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0
        assert _all_end(family)


def _answers(running: Up, replica: int) -> bool:
    with suppress(OSError):
        return running.get("/readyz", replica) == b""
    return False


@pytest.mark.parametrize(("server", "name"), [("postgres/postmaster.pid", "PostgreSQL"), ("redis/redis.pid", "Redis")])
def test_a_server_that_dies_is_started_again_with_its_data_where_it_was(state: Path, server: str, name: str) -> None:
    with _running(state) as running:
        database_url, redis_url = running.urls()
        redis.Redis.from_url(redis_url).set("hint", "kept")
        for times in (1, 2):
            killed = _pid_in(state / server)
            os.kill(killed, signal.SIGKILL)
            said = f"darkroom: {name} was killed by SIGKILL; restarting it"
            _wait(lambda times=times, said=said: sum(line.startswith(said) for line in running.lines) == times)
            _wait(lambda killed=killed: _pid_in(state / server) not in (0, killed))
            _wait(lambda: Database(database_url).answers() and broker_answers(redis_url))
            assert running.get("/readyz") == b""
        assert redis.Redis.from_url(redis_url).get("hint") == b"kept"


def _pid_in(path: Path) -> int:
    """Return the process id in a server's pid file; 0 without one."""
    with suppress(FileNotFoundError, ValueError):
        return int(path.read_text(encoding="ascii").split("\n")[0])
    return 0


def test_a_second_darkroom_on_the_folder_is_refused_with_the_first_ones_number(state: Path) -> None:
    with _running(state) as running:
        second = Up(state, free_port())
        assert second.end() == 2
        assert len(second.lines) == 1
        assert f"another Darkroom (process {running.process.pid}) is running" in second.lines[0]
        assert running.get("/readyz") == b""


def test_servers_from_the_environment_are_used_instead_of_private_ones(state: Path, tmp_path: Path) -> None:
    with _running(state) as running:
        database_url, redis_url = running.urls()
        with _running(tmp_path / "other", DATABASE_URL=database_url, REDIS_URL=redis_url) as other:
            assert other.urls() == (database_url, redis_url)
            assert not (tmp_path / "other" / "postgres").exists()
            assert not (tmp_path / "other" / "redis").exists()


def _log_path(state: Path, name: str) -> Path:
    return state / "logs" / f"{name}.log"


def _log(state: Path, name: str) -> str:
    return _log_path(state, name).read_text(encoding="utf-8")


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _wait_for_log(state: Path, name: str, words: str) -> None:
    """Wait until a child's log ends in `words`."""
    _wait(lambda: _log(state, name).endswith(f"{words}\n"))


def _refusal(capsys: pytest.CaptureFixture[str], state: Path, host: str, port: int) -> str:
    """Return the single line of a refusal by `up`, which must start nothing."""
    with pytest.raises(UserError) as refused:
        up(state, host, port, api=lambda host, port: ["/nonexistent"])
    assert capsys.readouterr() == ("", "")
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_a_port_in_use_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in _refusal(capsys, tmp_path, "127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("127.0.0.1", 0, "between 1 and 65535"),
        ("127.0.0.1", 70000, "between 1 and 65535"),
        ("203.0.113.1", 8000, "cannot listen on 203.0.113.1"),
        ("host name", 8000, "the host 'host name' is unknown"),
    ],
)
def test_an_unavailable_address_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, host: str, port: int, words: str
) -> None:
    assert words in _refusal(capsys, tmp_path, host, port)


def test_a_folder_that_cannot_be_created_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # below a regular file, because these tests may run as root, which ignores permissions
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert f"cannot write to the state folder {file / 'state'}" in _refusal(
        capsys, file / "state", "127.0.0.1", free_port()
    )


def test_a_lock_file_without_a_living_holder_is_no_obstacle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n", encoding="ascii")
    assert "is running" not in _refusal(capsys, tmp_path, "127.0.0.1", 0)
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4242\n")
        held.flush()
        assert "another Darkroom (process 4242) is running" in _refusal(capsys, tmp_path, "127.0.0.1", 0)
