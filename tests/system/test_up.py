"""Laws of `darkroom up`: a restart draws the same image, and a crash loses no data and leaves no process."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.embedded.process import works_in
from darkroom.model.machine.folder_lock import service_address
from darkroom.store.database import Database
from tests import warm
from tests.app.served import Service, weights_folder
from tests.model.small import small_recipe
from tests.processes import PATIENCE_SECONDS, family_of, free_port, free_ports, living, wait_until
from tests.system.cluster import TIMES, Jobs
from tests.system.prometheus_server import prometheus

DEVICES = 3


def _environment(**additions: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    return inherited | TIMES | {"OMP_NUM_THREADS": "1"} | additions


class Darkroom:
    """A running `darkroom up` whose output goes to a file. start: `subprocess.Popen` starts it as a user does."""

    def __init__(
        self,
        state: Path,
        weights: Path,
        output: Path,
        *options: str,
        start: type[subprocess.Popen[Any]] = warm.Popen,
        **environment: str,
    ) -> None:
        self.port = free_ports(DEVICES)
        self._output = output
        with output.open("wb") as file:
            self.process = start(
                [warm.DARKROOM, "up", "--state", str(state), "--port", str(self.port), *options],
                env=_environment(DARKROOM_WEIGHTS_FOLDER=str(weights), **environment),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group, as in a terminal
            )

    def said(self) -> str:
        """Return its output so far."""
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, words: str) -> None:
        """Wait until its output contains `words`."""
        wait_until(lambda: words in self.said() or self.process.poll() is not None, words)
        assert words in self.said(), self.said()

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of one tiny model."""
    return weights_folder(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder for all these tests. Each must be able to start with the state that the last one left."""
    return tmp_path_factory.mktemp("up") / "state"


@contextmanager
def _started(state: Path, weights: Path, output: Path, *options: str, **start: Any) -> Iterator[Darkroom]:
    """Start `darkroom up`; kill it at the end if it still runs."""
    started = Darkroom(state, weights, output, *options, **start)
    try:
        yield started
    finally:
        started.process.kill()
        started.end()


@contextmanager
def _ready(state: Path, weights: Path, output: Path, *options: str, **start: Any) -> Iterator[tuple[Darkroom, Service]]:
    """Start `darkroom up` and wait until everything runs."""
    with _started(state, weights, output, *options, **start) as started:
        started.wait_for(f"ready at http://127.0.0.1:{started.port}")
        service = Service(f"http://127.0.0.1:{started.port}")
        with service.client:
            yield started, service


MODULES = {"worker": b"darkroom.worker.celery_app", "reconciler": b"darkroom.worker.reconciler"}


def _worker(started: Darkroom, name: str) -> list[int]:
    """Return the process of the worker or the reconciler; an empty list while there is none."""
    return [pid for pid in family_of(started.process.pid) if MODULES[name] in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _with_workers(started: Darkroom) -> set[int]:
    """Wait until the workers run; returns all processes of this `darkroom up`."""
    wait_until(lambda: bool(_worker(started, "worker") and _worker(started, "reconciler")), "workers")
    return family_of(started.process.pid)


def _registered(service: Service) -> dict[str, Any]:
    """Wait until the store has the shipped weights; returns their model."""
    wait_until(lambda: service.client.get("/v1/models/tiny").status_code == 200, "registered")
    found: dict[str, Any] = service.client.get("/v1/models/tiny").json()
    return found


def test_from_the_command_to_a_picture_and_again_after_a_restart(weights: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with _ready(state, weights, tmp_path / "first", start=subprocess.Popen) as (started, service):
        first = service.images(seed=3, n=2)
        model = _registered(service)
        assert model["versions"] == 1
        wait_until(lambda: 'darkroom_workers_alive{device="cpu"} 1.0' in service.client.get("/metrics").text, "alive")
        family = _with_workers(started)
        assert len(family) >= 6  # itself, PostgreSQL, Redis, the API, worker and reconciler
        _end_in_order(started)
    assert not living(family)

    with _ready(state, weights, tmp_path / "second", start=subprocess.Popen) as (started, service):
        np.testing.assert_array_equal(service.images(seed=3, n=2), first)
        assert _registered(service) == model
        assert service.client.get("/docs").status_code == 200
        _end_in_order(started)


def _end_in_order(started: Darkroom) -> None:
    """Press Ctrl-C once; checks that all processes end."""
    started.process.send_signal(signal.SIGINT)
    assert started.end() == 0, started.said()
    assert started.said().endswith("darkroom: stopped\n")


@pytest.mark.parametrize("stage", ["starting PostgreSQL", "starting the API"])
def test_ctrl_c_while_it_starts_ends_what_was_started(state: Path, weights: Path, tmp_path: Path, stage: str) -> None:
    with _started(state, weights, tmp_path / "output") as started:
        started.wait_for(stage)
        wait_until(lambda: len(family_of(started.process.pid)) > 1, "a child")
        family = family_of(started.process.pid)
        os.killpg(started.process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        assert started.end() == 0, started.said()
        assert started.said().endswith("darkroom: stopping\ndarkroom: stopped\n")
        wait_until(lambda: not living(family), "all ended")


def test_killed_without_warning_it_starts_again_with_what_was_stored(
    state: Path, weights: Path, tmp_path: Path
) -> None:
    with _ready(state, weights, tmp_path / "first") as (killed, service):
        stored, drawn = _registered(service), service.images(seed=3)
        assert stored["versions"] == 1
        family = _with_workers(killed)
        killed.process.kill()
        assert killed.end() == -signal.SIGKILL
        wait_until(lambda: not living(family), "all ended")
    left = (state / "lock").read_text(encoding="ascii")
    assert left == f"{killed.process.pid}\nhttp://127.0.0.1:{killed.port}\n"  # stale
    assert service_address(state) is None
    with _ready(state, weights, tmp_path / "second") as (_, service):
        assert _registered(service) == stored
        np.testing.assert_array_equal(service.images(seed=3), drawn)


def test_a_killed_worker_is_started_again_and_a_killed_api_is_named_and_ends_the_rest(
    state: Path, weights: Path, tmp_path: Path
) -> None:
    with _ready(state, weights, tmp_path / "output") as (running, service):
        for name in ("worker", "reconciler"):
            wait_until(lambda name=name: bool(_worker(running, name)), name)
            before = _worker(running, name)
            os.kill(before[0], signal.SIGKILL)
            running.wait_for(f"darkroom: the {name} was killed by SIGKILL; restarting it")
            wait_until(lambda before=before: not living(set(before)), "it ended")
            service.images(seed=3)
            wait_until(lambda name=name: bool(_worker(running, name)), f"{name} again")
        family = _with_workers(running)
        (api,) = (pid for pid in family if b"main:application" in _command(pid))
        os.kill(api, signal.SIGKILL)
        assert running.end() == 1
        after = running.said().partition("logs in")[2]
        assert f"darkroom: the API was killed by SIGKILL; the end of {state / 'logs' / 'api.log'}:" in after
        assert "serving tiny" in after  # the end of its log
        assert "Traceback" not in after
        wait_until(lambda: not living(family), "all ended")


def test_a_job_goes_on_after_ctrl_c_and_a_kill_leaves_none_of_its_processes(weights: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    database = Database(PrivatePostgres(state).url)
    jobs = Jobs(tmp_path, database)
    try:
        with _ready(state, weights, tmp_path / "first") as (started, service):
            recipe = small_recipe(training__total_images=10**8, training__checkpoint_every_images=1600)
            job_id = jobs.submit(recipe, jobs.register())
            wait_until(lambda: jobs.job(job_id).images_done > 0, "under way")
            service.images(seed=3)
            family = _with_workers(started)
            assert [pid for pid in family if b"darkroom.worker.entry" in _command(pid)]
            _end_in_order(started)
            assert not living(family)
        with _ready(state, weights, tmp_path / "second") as (started, service):
            wait_until(lambda: jobs.job(job_id).attempt == 2, "taken up again")
            handed_back = jobs.job(job_id)
            assert (handed_back.failures, handed_back.failure) == (0, None)
            wait_until(lambda: jobs.job(job_id).images_done > handed_back.images_done > 0, "going on")
            family = _with_workers(started)
            assert [pid for pid in family if b"darkroom.worker.entry" in _command(pid)]
            started.process.kill()
            assert started.end() == -signal.SIGKILL
            wait_until(lambda: not living(family), "all ended")
    finally:
        database.dispose()


def test_each_device_draws_and_works_under_its_own_name_and_prometheus_finds_them_all(
    weights: Path, tmp_path: Path
) -> None:
    metrics = free_ports(DEVICES)
    devices, told = ",".join(["cpu"] * DEVICES), {"DARKROOM_METRICS_PORT": str(metrics), "DARKROOM_WORKER_NAME": "lab"}
    with _ready(tmp_path / "state", weights, tmp_path / "output", "--devices", devices, **told) as (started, first):
        apis, workers = ([f"127.0.0.1:{one + k}" for k in range(DEVICES)] for one in (started.port, metrics))
        drawn = []
        for address in apis:
            service = Service(f"http://{address}")
            with service.client:
                drawn.append(service.images(seed=3))
        assert len({picture.tobytes() for picture in drawn}) == 1
        with prometheus(tmp_path / "prometheus", {"api": apis, "worker": workers}) as server:
            wait_until(lambda: server.targets() == {("api", "up"): DEVICES, ("worker", "up"): DEVICES}, "all scraped")
        alive = f'darkroom_workers_alive{{device="cpu"}} {DEVICES}.0'
        wait_until(lambda: alive in first.client.get("/metrics").text, "all alive")
        _end_in_order(started)


def test_a_closed_terminal_ends_everything_in_order(state: Path, weights: Path) -> None:
    with warm.Popen(
        [warm.DARKROOM, "up", "--state", str(state), "--port", str(free_port())],
        env=_environment(DARKROOM_WEIGHTS_FOLDER=str(weights)),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any("ready at" in line for line in process.stdout)
        process.stdout.close()
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(PATIENCE_SECONDS) == 0
    ended = (state / "logs" / "postgres.log").read_text(encoding="utf-8").splitlines()[-20:]
    assert any("received fast shutdown request" in line for line in ended), ended  # and not an immediate shutdown
    assert "database system is shut down" in ended[-1]
    api = (state / "logs" / "api.log").read_text(encoding="utf-8").rpartition("Started server process")[2]
    assert "Application shutdown complete" in api


def _refusal(state: Path, *options: str, **environment: str) -> str:
    """Return the error of a `darkroom up` that cannot start."""
    refused = warm.run([warm.DARKROOM, "up", "--state", str(state), *options], env=_environment(**environment))
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    return refused.stderr


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refusal(tmp_path / "state", "--port", str(port))
    assert said == f"error: port {port} on 127.0.0.1 is in use; choose another one with --port\n"
    assert not (tmp_path / "state" / "postgres").exists()


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("DARKROOM_DEVICE", "cuda:99", "the API cannot start: DARKROOM_DEVICE cuda:99 cannot be used"),
        ("DARKROOM_BEAT_SECONDS", "-1", "cannot start: the environment variable DARKROOM_BEAT_SECONDS"),
        ("DATABASE_URL", "mysql://x", "DATABASE_URL must begin with postgresql://"),
        ("REDIS_URL", "x:y", "REDIS_URL is not a valid URL"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line_at_once(
    state: Path, weights: Path, setting: str, value: str, says: str
) -> None:
    environment = {"DARKROOM_WEIGHTS_FOLDER": str(weights), setting: value}
    assert says in _refusal(state, "--port", str(free_port()), **environment)


def test_under_nohup_it_outlives_the_terminal(state: Path, weights: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        started = Darkroom(state, weights, tmp_path / "output", start=subprocess.Popen)  # inherits the ignored signal
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        started.wait_for("starting the API")
        os.killpg(started.process.pid, signal.SIGHUP)
        started.wait_for("ready at")
        _end_in_order(started)
    finally:
        started.process.kill()
        started.end()


@pytest.mark.parametrize("place", ["{file}", "{file}/state", "/proc/darkroom"])
def test_a_state_folder_that_cannot_be_made_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")  # a file, because file modes do not stop root
    state = Path(place.format(file=tmp_path / "file"))
    said = _refusal(state, "--port", str(free_port()))
    assert said.startswith(f"error: cannot write to the state folder {state}: ")


def _beside(state: Path, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the folder where `.darkroom` is the state folder. The service may run or not."""
    (state.parent / ".darkroom").unlink(missing_ok=True)
    (state.parent / ".darkroom").symlink_to(state)
    return warm.run([warm.DARKROOM, *arguments], cwd=state.parent, env=_environment(DARKROOM_API_KEY=key))


def test_from_the_refusal_without_keys_to_the_end_of_one(weights: Path, tmp_path: Path) -> None:
    """The walk of an operator who opens the service to others."""
    state, everywhere = tmp_path / "state", ("--host", "0.0.0.0")
    said = _refusal(state, *everywhere, "--port", str(free_port()))
    assert "error: 0.0.0.0 can be reached from other machines, and there are no API keys" in said
    assert "darkroom keys create" in said

    made = _beside(state, "keys", "create", "--name", "lab", "--scopes", "generate", "--images-per-day", "3")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    with _ready(state, weights, tmp_path / "output", *everywhere) as (started, _):
        out = str(tmp_path / "out.png")
        drawing = ("generate", "One", "--n", "2", "--out", out)  # it finds its own service
        for key, word in (("", "set DARKROOM_API_KEY"), (token[:-1], "the key in DARKROOM_API_KEY")):
            refused = _beside(state, *drawing, key=key)
            assert refused.returncode == 2
            assert word in refused.stderr
        drawn = _beside(state, *drawing, key=token)
        assert drawn.returncode == 0, drawn.stderr
        assert "1 is left" in _beside(state, *drawing, key=token).stderr
        assert _beside(state, "keys", "revoke", "1").returncode == 0
        wait_until(lambda: _beside(state, *drawing, key=token).stderr.count("revoked") == 1, "the revocation is known")
        _end_in_order(started)
    trail = [line for line in _beside(state, "audit").stdout.splitlines() if "by shipped weights" not in line]
    assert [("key.created" in line, "key.revoked" in line) for line in trail] == [(True, False), (False, True)]


def test_a_database_that_is_away_is_said_and_nothing_stays(tmp_path: Path) -> None:
    address = "postgresql://nobody@127.0.0.1:1/none"
    said = _refusal(tmp_path / "state", "--port", str(free_port()), DATABASE_URL=address)
    assert "cannot migrate the database" in said
    assert "127.0.0.1" in said
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    assert not [pid for pid in processes if works_in(pid, tmp_path / "state" / "redis")]
