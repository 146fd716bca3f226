"""Real servers and workers on this machine, with short timeouts, which tests can kill and stop."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psycopg
import redis

from darkroom.app.embedded import process
from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.embedded.process import ChildProcess
from darkroom.app.embedded.process_commands import api_command, worker_commands
from darkroom.app.embedded.redis import PrivateRedis
from darkroom.model.config import Recipe
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.encoded import encode
from darkroom.store.database import Database, DatabaseAway
from darkroom.store.dataset_repository import DatasetFacts, register_dataset
from darkroom.store.hints import QUEUE, Hints
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import get_job, submit_job
from darkroom.store.migrations import upgrade
from darkroom.store.tables import Job
from tests.fixtures.postgres import trust_the_machine
from tests.model.small import random_dataset
from tests.processes import family_of, free_port, wait_until
from tests.system import paced
from tests.warm import SUBPROCESS

LEASE_SECONDS = 5.0
TIMES = {
    "DARKROOM_LEASE_SECONDS": str(LEASE_SECONDS),
    "DARKROOM_BEAT_SECONDS": "1",
    "DARKROOM_POLL_SECONDS": "0.2",
    "DARKROOM_RECONCILE_SECONDS": "1",
    "DARKROOM_GRACE_SECONDS": "60",
    "DARKROOM_NICENESS": "0",
}
KTHREADD = 2
WORK = frozenset(("darkroom.worker.entry", paced.MODULE))
"""Modules of work processes. Their arguments are the parent, the job, the attempt and more."""


class Jobs:
    """Jobs and data sets in a database. folder: for temporary files of uploads."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database

    def register(self, name: str = "data", count: int = 40) -> int:
        """Upload a data set of random images; returns its id."""
        made = random_dataset(count)
        decoded = Decoded(made.images, made.labels, made.class_names)
        path = self.folder / f"{name}.encoded"
        with path.open("w+b") as file:
            digest = encode(decoded, file)
            facts = DatasetFacts("npz", digest, made.class_names, [count, 0, 0], 1, 8)
            with self.database.session() as session:
                return register_dataset(session, name, facts, file, contact_sheet(decoded)).dataset.id

    def submit(self, recipe: Recipe, dataset_id: int, **fields: object) -> int:
        """Queue a train job; returns its id."""
        with self.database.session() as session:
            settings: dict[str, Any] = {"model_name": recipe.name, "devices": recipe.training.devices} | fields
            work = TrainWork(recipe=recipe)
            return submit_job(
                session,
                kind="train",
                configuration=work.model_dump(mode="json"),
                total_images=recipe.training.total_images,
                dataset_id=dataset_id,
                **settings,
            ).id

    def job(self, job_id: int) -> Job:
        """Return the job's record. Waits until the database answers."""
        while True:
            try:
                with self.database.session() as session:
                    return get_job(session, job_id)
            except DatabaseAway:
                time.sleep(0.05)

    def wait_for(self, job_id: int, *statuses: str) -> Job:
        """Wait until the job has one of these statuses."""
        what = f"job {job_id} {' or '.join(statuses)}"
        wait_until(lambda: self.job(job_id).status in statuses, what)
        return self.job(job_id)


class Cluster(Jobs):
    """PostgreSQL, Redis, the API, workers by name, and the reconciler.

    warm: start Darkroom's processes by `tests.warm`, and let trainings rest STEP_PAUSE_SECONDS after each step.
    """

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None, warm: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._warm = warm
        self.postgres = PrivatePostgres(folder)
        self.redis = PrivateRedis(folder)
        self._extra = dict(environment or {})
        self.processes: dict[str, ChildProcess] = {}
        self.postgres.start()
        trust_the_machine(self.postgres)
        upgrade(self.postgres.url)
        self.redis.start()
        super().__init__(folder, Database(self.postgres.url))

    def stop(self) -> None:
        """End everything."""
        for name in list(self.processes):
            self.kill(name)
        self.database.dispose()
        self.redis.stop()
        self.postgres.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of the cluster."""
        return {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "DARKROOM_CACHE_FOLDER": str(self.folder / "datasets"),
            "OMP_NUM_THREADS": "1",
            "C_FORCE_ROOT": "1",
            **TIMES,
            paced.PAUSE: "0.01",
            **self._extra,
        }

    def start_worker(self, name: str) -> None:
        """A worker."""
        command = [sys.executable, "-m", paced.MODULE] if self._warm else worker_commands()["worker"]
        self.run(name, command, DARKROOM_WORKER_NAME=name)

    def start_reconciler(self, name: str = "reconciler") -> None:
        """The reconciler."""
        self.run(name, worker_commands()["reconciler"])

    def start_api(self, weights: Path, name: str = "api") -> str:
        """Start the API with the weights of a folder, and wait until it is ready; returns its address."""
        port = free_port()
        settings = {"DARKROOM_WEIGHTS_FOLDER": str(weights), "DARKROOM_DEVICE": "cpu"}
        self.run(name, api_command("127.0.0.1", port), **settings)
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, trust_env=False) as client:
            wait_until(lambda: _is_ready(client), f"{name} is ready")
        return url

    def run(self, name: str, command: Sequence[str], **environment: str) -> None:
        """Start a process. environment: further variables for it."""
        with mock.patch.object(process, "subprocess", SUBPROCESS if self._warm else subprocess):
            self.processes[name] = ChildProcess(
                name,
                command,
                log=self.folder / f"{name}.log",
                parent_death_signal=signal.SIGKILL,
                environment=self.environment | environment,
            )

    def kill(self, name: str) -> None:
        """Send SIGKILL to a process and its process group. Work processes have groups of their own."""
        self.processes.pop(name).kill()

    def end(self, name: str) -> None:
        """Send SIGTERM to a process and wait for its end. A worker then hands its job back."""
        process = self.processes.pop(name)
        process.send(signal.SIGTERM)
        wait_until(lambda: process.exit_code() is not None, f"{name} ends")

    def work_processes(self) -> dict[int, tuple[int, int]]:
        """Map each running work process to its (job, attempt). A launcher and its ranks are separate processes."""
        return {pid: (int(job_id), int(attempt)) for pid, (job_id, attempt, *_), _ in self._work()}

    def _work(self) -> Iterator[tuple[int, list[str], list[str]]]:
        """Yield (process, arguments from the job on, environment) of every work process of this cluster."""
        mine = f"DATABASE_URL={self.postgres.url}"
        for pid, command in _processes():
            for module in WORK.intersection(command):
                arguments = command[command.index(module) + 2 :]
                if arguments and mine in (environment := _read(pid, "environ")):
                    yield pid, arguments, environment

    def ranks(self, job_id: int) -> dict[int, int]:
        """Map rank to process for a job on several devices, without the launcher."""
        found: dict[int, int] = {}
        for pid, command, environment in self._work():
            if command[0] == str(job_id):
                found |= {int(line.removeprefix("RANK=")): pid for line in environment if line.startswith("RANK=")}
        return found

    def supervisors(self) -> list[int]:
        """Return the processes of workers that supervise a job now."""
        return sorted({parent for pid in self.work_processes() if (parent := _parent(pid)) is not None})

    def send_hints(self, count: int) -> None:
        """Send the same hint several times, as a broker may do."""
        hints = Hints(self.redis.url)
        for _ in range(count):
            hints.send()

    def waiting_hints(self) -> int:
        """Return the number of hints that no worker has taken."""
        return int(redis.Redis.from_url(self.redis.url).llen(QUEUE))

    def flush_redis(self) -> None:
        """Delete everything in Redis."""
        redis.Redis.from_url(self.redis.url).flushall()


@contextlib.contextmanager
def away(server: PrivatePostgres | PrivateRedis) -> Iterator[None]:
    """Stop the server while the block runs."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def full(server: PrivateRedis) -> Iterator[None]:
    """Let Redis refuse commands that need memory while the block runs."""
    broker = redis.Redis.from_url(server.url)
    broker.config_set("maxmemory", 1)
    try:
        yield
    finally:
        broker.config_set("maxmemory", 0)


@contextlib.contextmanager
def read_only(server: PrivateRedis) -> Iterator[None]:
    """Make Redis refuse writes while the block runs: it becomes the replica of a server that does not answer."""
    broker = redis.Redis.from_url(server.url)
    broker.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        broker.replicaof("NO", "ONE")


@contextlib.contextmanager
def only_reading(server: PrivatePostgres) -> Iterator[None]:
    """Make PostgreSQL refuse writes while the block runs, like a replica before a failover ends."""

    def set_to(value: str) -> None:
        writing = "-c default_transaction_read_only=off"
        with psycopg.connect(server.url, options=writing, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")

    set_to("on")
    try:
        yield
    finally:
        set_to("off")


@contextlib.contextmanager
def cluster(folder: Path, *workers: str, warm: bool = True, **environment: str) -> Iterator[Cluster]:
    """Run a cluster with these workers and a reconciler."""
    running = Cluster(folder, environment=environment, warm=warm)
    try:
        for name in workers:
            running.start_worker(name)
        running.start_reconciler()
        yield running
    except BaseException:
        for log in folder.glob("*.log"):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        running.stop()


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Yield (process, parts of the command line) of every process; a zombie's command line is empty."""
    for pid in {int(name) for name in os.listdir("/proc") if name.isdigit()} - _kernel_threads():
        yield pid, " ".join(_read(pid, "cmdline")).split(" ")


@cache
def _kernel_threads() -> set[int]:
    """Return about half of all processes. They stay, and have no command line."""
    return family_of(KTHREADD) if _read(KTHREADD, "comm") == ["kthreadd\n"] else set()


def _read(pid: int, name: str) -> list[str]:
    """Read the command line or environment of a process; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().decode(errors="replace").strip("\0").split("\0")
    except OSError:
        return []


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:  # it does not listen yet
        return False


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Signal processes; ignores those that have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
