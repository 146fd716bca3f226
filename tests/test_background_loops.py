"""Law of background work: no error ends a loop. Every loop of the packages is here, and meets an error."""

import asyncio
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from darkroom.app.engine.engine import Engine
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.request import Failed, Finished
from darkroom.app.jobs.hint_sender import HintSender
from darkroom.app.monitoring import job_metrics
from darkroom.app.monitoring.job_metrics import JobMetrics
from darkroom.app.versions.catalog import Catalog
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.store.database import Database
from darkroom.store.hints import Hints
from darkroom.store.job_repository import Lease, LeaseLost, submit_job
from darkroom.store.run_repository import log_after
from darkroom.telemetry import loops, reachability
from darkroom.telemetry.reachability import Reachability
from darkroom.worker import celery_app, reconciler, supervisor, watchdog
from darkroom.worker.device_check import DeviceCheck
from darkroom.worker.memory_record import MemoryRecord
from darkroom.worker.settings import ReconcilerSettings, WorkerSettings
from darkroom.worker.supervisor import Supervisor
from tests.app.engine.calls import CLASSES, CONFIG, rows, smooth, submit
from tests.processes import wait_until
from tests.worker.light_work import SAYS_THREE_LINES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "model", "store", "telemetry", "worker")

OTHER_THREADS = {
    "app/cli/training_processes.py": "waits for the end of one process, and ends its own",
    "telemetry/loops.py": "is the mechanism",
    "worker/reporter.py": "hands an error to the main thread, which ends the attempt",
    "worker/speed_check.py": "waits for the end of one process",
}


class Broken:
    """A call that fails the first `times` times. calls: how often it was called."""

    def __init__(self, times: int = 2, then: Any = None) -> None:
        self._times = times
        self._then = then
        self.calls = 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        if self.calls <= self._times:
            raise RuntimeError("a bug")
        return self._then

    def wait(self) -> None:
        """Wait until it has been called after its failures."""
        wait_until(lambda: self.calls > self._times, "the loop goes on")


class NoDatabase:
    """Yields a session that nobody uses."""

    @contextmanager
    def session(self) -> Iterator[None]:
        yield None

    reading = session


NO_DATABASE = cast(Database, NoDatabase())


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops rest for a moment only."""
    monkeypatch.setattr(loops, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(reachability, "PROBE_SECONDS", 0.001)
    monkeypatch.setattr(job_metrics, "REFRESH_SECONDS", 0.001)


def _sources() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_every_thread_that_runs_for_long_is_a_loop_of_this_file() -> None:
    threads = {path for path, text in _sources() if re.search(r"\bThread\(", text)}
    assert threads == set(OTHER_THREADS)
    named = [name for _, text in _sources() for name in re.findall(r'\bstart_loop\(\s*f?"([a-z ]+)', text)]
    assert sorted(name.strip() for name in named) == sorted([*LOOPS, "log"])
    guarded = {path for path, text in _sources() if re.search(r"\bwith surviving\(", text)}
    assert guarded == {"app/versions/catalog.py", "telemetry/loops.py", "worker/reconciler.py"}


def _probe(_: pytest.MonkeyPatch) -> None:
    answers = Broken(then=True)
    probes = Reachability({"server": answers})
    probes.start()
    answers.wait()
    wait_until(lambda: next(iter(probes.collect())).samples[0].value == 1.0, "the server is up")
    probes.stop()


def test_a_server_that_keeps_a_probe_waiting_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hangs() -> bool:
        answered = not asked.is_set()
        asked.set()
        return answered or answer.wait()

    monkeypatch.setattr(reachability, "LATE_SECONDS", 0.0)
    probes = Reachability({"server": hangs})
    probes.start()
    wait_until(lambda: [sample.value for sample in next(iter(probes.collect())).samples] == [0.0], "the server is down")
    answer.set()
    wait_until(lambda: [sample.value for sample in next(iter(probes.collect())).samples] == [1.0], "the server is up")
    probes.stop()


def _job_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Broken()
    monkeypatch.setattr(job_metrics, "read_job_statistics", read)
    metrics = JobMetrics(NO_DATABASE)
    metrics.start()
    read.wait()
    metrics.stop()


def _hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.app.jobs.hint_sender.count_idle_workers", lambda *_: 1)
    send = Broken(times=1)
    sender = HintSender(cast(Hints, SimpleNamespace(send_up_to=send)), NO_DATABASE)
    sender.start()
    sender.send_soon()
    wait_until(lambda: send.calls == 1, "the first hint fails")
    sender.stop(60.0)  # and still sends what is due
    send.wait()


def _engine(_: pytest.MonkeyPatch) -> None:
    class Observer(EngineObserver):
        broken = Broken(times=1)

        def step(self, rows: int, network_rows: int, seconds: float, batch_limit: int) -> None:
            self.broken()

    engine = Engine(observer=Observer())
    engine.start()
    try:
        engine.load("v1", Denoiser(CONFIG, CLASSES, smooth)).result(60)
        failed = submit(engine, rows(2)).wait()
        assert isinstance(failed, Failed)
        assert failed.reason == "internal"
        assert isinstance(submit(engine, rows(2)).wait(), Finished)
        assert engine.alive
        assert (engine.status().requests, engine.status().rows_running) == (0, 0)
    finally:
        engine.stop(0.0)


def _watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def lapse(_: Any, lease: Lease) -> float:
        read()
        raise LeaseLost("it is over")

    def end(_: str) -> NoReturn:
        ended.set()
        while True:
            threading.Event().wait()

    read = Broken()
    monkeypatch.setattr(watchdog, "lease_seconds_left", lapse)
    monkeypatch.setattr(watchdog, "LONGEST_SLEEP_SECONDS", 0.001)
    monkeypatch.setattr(watchdog, "end_process", end)
    watchdog.end_with_lease(NO_DATABASE, Lease(1, 1))
    wait_until(ended.is_set, "the lost lease is found")


def _worker(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    beat, look, keep = Broken(), Broken(then=False), Broken()
    monkeypatch.setattr(celery_app, "see_worker", beat)
    monkeypatch.setattr(celery_app, "remove_left_folders", list)
    monkeypatch.setattr(WorkerSettings, "database", lambda *_: NO_DATABASE)
    monkeypatch.setattr(Supervisor, "run_next", look)
    monkeypatch.setattr(MemoryRecord, "keep", keep)
    none = "postgresql://nobody@127.0.0.1:1/none"
    settings = WorkerSettings(database_url=none, redis_url="redis://127.0.0.1:1/0", beat_seconds=0.001)
    worker = celery_app.Worker(settings)
    worker._begin()
    {"alive": beat, "look": look, "memory": keep}[name].wait()
    worker._end()


LOOPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "alive": lambda monkeypatch: _worker(monkeypatch, "alive"),
    "engine": _engine,
    "hints": _hints,
    "job metrics": _job_metrics,
    "look": lambda monkeypatch: _worker(monkeypatch, "look"),
    "memory": lambda monkeypatch: _worker(monkeypatch, "memory"),
    "probe": _probe,
    "watchdog": _watchdog,
}


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_a_loop_survives(name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    LOOPS[name](monkeypatch)
    assert "a bug" in caplog.text


def test_the_loop_log_survives(database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a work process that cannot be relayed is lost, and the next ones are stored."""
    monkeypatch.setattr(supervisor, "relayed", Broken(times=1, then=["a line"]))
    with database.session() as session:
        job_id = submit_job(session, kind="train", model_name="m", configuration={}, total_images=1).id
    settings = WorkerSettings(database_url=database_url, redis_url="redis://127.0.0.1:1/0", worker_device="cpu")
    assert Supervisor(settings, database, lambda: False, DeviceCheck(0), SAYS_THREE_LINES).run_next()
    with database.session() as session:
        assert [line.line for line in log_after(session, job_id, 0)] == ["a line"] * 2


async def test_an_error_does_not_end_the_following_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    look = Broken()
    monkeypatch.setattr(Catalog, "look", look)
    catalog = Catalog(Engine(), NO_DATABASE, device=cast(Any, None), default=None)
    following = asyncio.create_task(catalog.follow(0.001))
    while look.calls < 3:  # the third call returns None, which cannot be awaited: one more error
        await asyncio.sleep(0.001)
    assert not following.done()
    following.cancel()


def test_an_error_does_not_end_the_reconciler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Broken(times=1)
    settings = ReconcilerSettings(database_url="postgresql://nobody@127.0.0.1:1/none")
    settings.alive_file = tmp_path / "missing" / "alive"  # it cannot be touched, as on a full disk
    monkeypatch.setattr(reconciler, "read_settings", lambda kind: settings if kind is ReconcilerSettings else None)
    monkeypatch.setattr(reconciler, "set_up_logs", lambda *_: None)
    monkeypatch.setattr(reconciler, "reconcile", rounds)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(signal, "sigtimedwait", lambda *_: None if rounds.calls < 3 else "SIGTERM")
    reconciler.main()
    assert rounds.calls == 3
