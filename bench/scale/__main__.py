"""Measures what workers ask of PostgreSQL, and what gives out first: `python -m bench.scale`.

It prints what each real process sends, and then runs 10, 100 and 1,000 workers (`bench/scale/stubs.py`) in the midst of
trainings. Above 100 they reach PostgreSQL through PgBouncer (Debian's package `pgbouncer`), as docs/scale.md says.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.scale.processes import measure
from bench.scale.server import SETTINGS, Reading, server
from darkroom.store.database import Database
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import submit_job
from tests.model.small import small_recipe
from tests.pgbouncer import pgbouncer

DIRECT = 100
"""So many workers connect to PostgreSQL itself."""
POOL = 60
WORKERS_OF_PROCESS = 250
JOBS_OF_MODEL = 10
SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Result:
    """A run. began, ended: of the measured time.

    slowness: the workers' waits were so many times as long as in production. The table has their rates in production.
    """

    workers: int
    slowness: float
    began: Reading
    ended: Reading
    statements: int
    connections: int
    waits: Counter[str]

    def row(self) -> str:
        """Return a line of the table."""
        seconds = (self.ended.at - self.began.at) / self.slowness
        cpu = self.ended.cpu_seconds - self.began.cpu_seconds
        transactions = self.ended.transactions - self.began.transactions
        then = self.ended.lock_waits - self.began.lock_waits
        return (
            f"| {self.workers:,} | times {self.slowness:g}, {seconds * self.slowness:.0f} s | {self.connections} "
            f"| {self.statements / seconds:,.0f} | {self.statements / seconds / self.workers:.2f} "
            f"| {transactions / seconds:,.0f} | {1e6 * cpu / self.statements:.0f} µs | {cpu / seconds:.2f} "
            f"| {(self.ended.wal_bytes - self.began.wal_bytes) / seconds / 1e6:.2f} MB "
            f"| {_listed(then)} | {_listed(self.waits)} |"
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(3)) or "none"


HEAD = (
    "| workers | waits | connections to PostgreSQL | statements/s | of one worker | transactions/s "
    "| PostgreSQL's processor for a statement | its cores | WAL/s | lock waits above 20 ms, by table "
    "| what connections waited for (samples) |"
)


class _Stubs:
    """Processes with workers."""

    def __init__(self, workers: int, slowness: float, environment: dict[str, str]) -> None:
        self._processes = []
        for first in range(0, workers, WORKERS_OF_PROCESS):
            own = (f"w{first}", str(min(WORKERS_OF_PROCESS, workers - first)), str(slowness))
            command = [sys.executable, "-m", "bench.scale.stubs", *own]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None}
            self._processes.append(subprocess.Popen(command, env=os.environ | environment, text=True, **pipes))

    def tell(self, command: str) -> int:
        """Let all processes carry out a command. Return how many statements they have sent."""
        for process in self._processes:
            assert process.stdin is not None
            print(command, file=process.stdin, flush=True)
        return sum(int(process.stdout.readline()) for process in self._processes if process.stdout is not None)

    def end(self) -> None:
        """End the processes, without handing jobs back."""
        for process in self._processes:
            process.communicate()


def _submit(url: str, jobs: int) -> None:
    work = TrainWork(recipe=small_recipe(training__total_images=10**9)).model_dump(mode="json")
    database = Database(url)
    with database.session() as session:
        for number in range(jobs):
            name = f"model-{number // JOBS_OF_MODEL}"
            submit_job(session, kind="train", model_name=name, configuration=work, total_images=10**9)
    database.dispose()


def simulate(workers: int, seconds: float, *, slowness: float, pooled: bool) -> Result:
    """Run so many workers, each with a training, and measure for `seconds`."""
    with ExitStack() as until_done:
        folder = Path(until_done.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        running = until_done.enter_context(server(folder / "server", SETTINGS))
        url, pooler = running.url, "false"
        if pooled:
            url, pooler = until_done.enter_context(pgbouncer(running.url, folder / "pgbouncer", POOL)), "true"
        _submit(running.url, workers)
        environment = {"DATABASE_URL": url, "DATABASE_POOLER": pooler, "REDIS_URL": "redis://localhost:1/0"}
        stubs = _Stubs(workers, slowness, environment | {"OMP_NUM_THREADS": "1", "DARKROOM_LOG_LEVEL": "ERROR"})
        until_done.callback(stubs.end)
        stubs.tell("count")
        stubs.tell("claim")
        time.sleep(SETTLE_SECONDS)
        before, began = stubs.tell("count"), running.read()
        waits: Counter[str] = Counter()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.25)
            waits += running.waiting()
        sent = stubs.tell("count") - before
        return Result(workers, slowness, began, running.read(), sent, running.connections(), waits)


def main() -> None:
    """Print both tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--workers", type=int, nargs="*", default=[10, 100, 1000])
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument(
        "--slowness", type=float, nargs="*", default=[1.0, 2.0, 10.0], help="factor of the waits of each of --workers"
    )
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print("| process | statements/s | connections | PostgreSQL's memory for them |\n| --- | ---: | ---: | ---: |")
        for name, sent in measure(Path(folder), chosen.seconds).items():
            rate = sent.statements.total() / chosen.seconds
            print(f"| {name} | {rate:.2f} | {sent.connections} | {sent.memory_bytes / 1e6:.1f} MB |", flush=True)
    print(f"\n{HEAD}\n| ---: | --- {'| ---: ' * 7}| --- | --- |")
    for workers, slowness in zip(chosen.workers, chosen.slowness, strict=True):
        print(simulate(workers, chosen.seconds, slowness=slowness, pooled=workers > DIRECT).row(), flush=True)


if __name__ == "__main__":
    main()
