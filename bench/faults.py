"""Runs `darkroom up` while its parts die, hang and refuse: `python -m bench.faults --minutes 60`.

Train jobs, generate jobs and requests keep coming. At the end every accepted job must have succeeded, none may exist
twice, equal work must have equal results, and the stored history must keep its laws (`bench/history.py`). The tables
have the faults, the jobs and the answers. The exit code is 1 when a law was broken.
"""

import argparse
import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import redis

from bench.history import faults as history_faults
from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.database import Database
from tests.processes import family_of, free_port

LEASE_SECONDS = 10.0
SETTINGS = {
    "DARKROOM_LEASE_SECONDS": str(LEASE_SECONDS),
    "DARKROOM_BEAT_SECONDS": "2",
    "DARKROOM_RECONCILE_SECONDS": "2",
    "DARKROOM_MEASURE_SPEED": "false",
    "DARKROOM_DEVICE": "cpu",
    "OMP_NUM_THREADS": "1",
}
TRAIN = {
    "recipe": "digits",
    "dataset": "digits",
    "model": "faults",
    "max_attempts": 100,
    "overrides": {"training.total_images": 3200, "training.checkpoint_every_images": 640, "evaluation": None},
}
GENERATE = {"model": "fashion-mnist", "n": 8, "seed": 7, "steps": 4, "shard_images": 20, "max_attempts": 100}
PICTURE = {"class": 0, "model": "fashion-mnist", "seed": 3, "steps": 4}
MODULES = {
    "worker": "darkroom.worker.celery_app",
    "work process": "darkroom.worker.entry",
    "reconciler": "darkroom.worker.reconciler",
    "API": "darkroom.app.main:application",
}
PATIENCE_SECONDS = 900.0


class Stack:
    """A `darkroom up` on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "state"
        self._log = folder / "up.log"
        self.port = free_port()
        self.database_url = PrivatePostgres(self._state).url
        self._start()
        wait_until(self.is_ready, "the service is ready")

    def _start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
        command = [sys.executable, "-c", "from darkroom.app.cli.main import main; main()", "up"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--state", str(self._state), "--port", str(self.port)],
                env=environment | SETTINGS,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Return True when the service can draw. Starts it again when it has ended, as a service manager does."""
        if self._process.poll() is not None:
            self._start()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == httpx.codes.OK
        return False

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.wait()

    def redis_url(self) -> str:
        """Return the address that this run of the stack has given its Redis."""
        for pid in family_of(self._process.pid):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    if line.startswith(b"REDIS_URL="):
                        return line.removeprefix(b"REDIS_URL=").decode()
        raise redis.ConnectionError("no process knows the address")

    def signal_part(self, name: str, number: signal.Signals) -> int | None:
        """Send a signal to a part, and return its process; None when there is none now."""
        for pid in sorted(family_of(self._process.pid)):
            with contextlib.suppress(OSError):
                if MODULES[name].encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, number)
                    return pid
        return None

    def signal_server(self, file: str, number: signal.Signals) -> int:
        """Send a signal to PostgreSQL or Redis, which wrote this pid file, and return its process.

        Waits until it runs, because it may just be starting again.
        """
        sent: list[int] = []

        def send() -> bool:
            with contextlib.suppress(OSError, ValueError):
                pid = int((self._state / file).read_text(encoding="ascii").split("\n")[0])
                os.kill(pid, number)
                sent.append(pid)
            return bool(sent)

        wait_until(send, f"a server writes {file}")
        return sent[0]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait, and end the campaign when it takes too long."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"never: {what}")
        time.sleep(0.5)


def faults(stack: Stack, draw: random.Random) -> Mapping[str, Callable[[], None]]:
    """Return what a campaign does to a stack, by name. Each fault is over when its function returns."""

    def killed(part: str) -> Callable[[], None]:
        return lambda: void(stack.signal_part(part, signal.SIGKILL))

    def stopped(part: str, seconds: float) -> None:
        pid = stack.signal_part(part, signal.SIGSTOP)
        time.sleep(seconds)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def hung(file: str) -> None:
        family = family_of(stack.signal_server(file, signal.SIGSTOP))
        time.sleep(draw.uniform(1.0, 8.0))
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def set_reading(value: str) -> bool:
        writing = "-c default_transaction_read_only=off"
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(stack.database_url, options=writing, autocommit=True) as connection,
        ):
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")
            return True
        return False

    def only_reads() -> None:
        wait_until(lambda: set_reading("on"), "PostgreSQL takes the setting")
        time.sleep(draw.uniform(2.0, 1.5 * LEASE_SECONDS))
        wait_until(lambda: set_reading("off"), "PostgreSQL takes the setting")

    def emptied() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(redis.Redis.from_url(stack.redis_url()).flushall())
        return False

    def api_killed() -> None:
        if stack.signal_part("API", signal.SIGKILL) is not None:
            stack.wait()  # without its API it ends

    return {
        "worker killed": killed("worker"),
        "work process killed": killed("work process"),
        "reconciler killed": killed("reconciler"),
        "API killed": api_killed,
        "PostgreSQL killed": lambda: void(stack.signal_server("postgres/postmaster.pid", signal.SIGKILL)),
        "Redis killed": lambda: void(stack.signal_server("redis/redis.pid", signal.SIGKILL)),
        "worker hung beyond its lease": lambda: stopped("worker", LEASE_SECONDS + 3.0),
        "work process hung": lambda: stopped("work process", draw.uniform(1.0, 5.0)),
        "Redis hung": lambda: hung("redis/redis.pid"),
        "PostgreSQL only reads": only_reads,
        "Redis emptied": lambda: wait_until(emptied, "Redis answers"),
    }


def void(_: object) -> None:
    """Ignore a result."""


class Traffic:
    """Jobs and requests. answers: of POST /generate by status, 0 without one. wrong: what no answer may be."""

    def __init__(self, stack: Stack) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{stack.port}", timeout=60.0, trust_env=False)
        self.accepted: dict[str, list[int]] = {"train-jobs": [], "generate-jobs": []}
        self.answers: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._picture = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def begin(self) -> None:
        """Register the data set, and draw from now on."""
        self.insist("POST", "/v1/datasets", json={"name": "digits", "format": "digits"})
        self._thread.start()

    def stop(self) -> None:
        """Draw no more."""
        self._over.set()
        self._thread.join()

    def submit(self) -> None:
        """Queue a job of each kind, and ask again until each is accepted: with one key, so that none is there twice."""
        for kind, body in (("train-jobs", TRAIN), ("generate-jobs", GENERATE)):
            number = len(self.accepted[kind])
            headers = {"Idempotency-Key": f"{kind}-{number}"}
            self.accepted[kind].append(self.insist("POST", f"/v1/{kind}", json=body, headers=headers).json()["id"])

    def insist(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request until it succeeds. Only an absence may refuse it."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = self._client.request(method, path, **options)
                if answer.is_success or answer.status_code == httpx.codes.CONFLICT:
                    return answer
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or "retry-after" not in answer.headers:
                    self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            time.sleep(0.5)

    def unfinished(self) -> int:
        """Return the number of jobs that have not ended."""
        paths = [f"/v1/{kind}/{number}" for kind, numbers in self.accepted.items() for number in numbers]
        return sum(self.insist("GET", path).json()["status"] in ("queued", "running", "cancelling") for path in paths)

    def _draw(self) -> None:
        while not self._over.wait(0.5):
            try:
                answer = self._client.post("/generate", json=PICTURE)
            except httpx.TransportError:
                self.answers[0] += 1
                continue
            self.answers[answer.status_code] += 1
            if answer.status_code == httpx.codes.OK:
                self._picture = self._picture or answer.content
                if answer.content != self._picture:
                    self.wrong.append("POST /generate: the same request gave another picture")
            elif answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                self.wrong.append(f"POST /generate: {answer.status_code} {answer.text[:200]}")


def judged(traffic: Traffic) -> tuple[list[str], list[str]]:
    """Return the lines of a table of all jobs, and the laws that were broken."""
    lines, wrong = [], list(traffic.wrong)
    weights: set[str] = set()
    pictures: list[bytes] = []
    for kind, numbers in traffic.accepted.items():
        statuses: Counter[str] = Counter()
        attempts = []
        for number in numbers:
            job = traffic.insist("GET", f"/v1/{kind}/{number}").json()
            statuses[job["status"]] += 1
            if job["status"] != "succeeded":
                wrong.append(f"{kind}/{number}: {job['status']}, {job['failure']}")
            elif kind == "generate-jobs":
                file = np.load(io.BytesIO(traffic.insist("GET", job["result"]).content))
                pictures.append(file["images"].tobytes())
            else:
                attempts.append(job["attempt"])
                newest = traffic.insist("GET", f"/v1/train-jobs/{number}/checkpoints").json()["checkpoints"][0]
                weights.add(newest["digest"])
        listed = traffic.insist("GET", f"/v1/{kind}", params={"limit": 200}).json()[
            kind.replace("-", "_").replace("train_", "")
        ]
        if sorted(one["id"] for one in listed) != sorted(numbers)[-200:]:
            wrong.append(f"{kind}: {len(listed)} are there, {len(numbers)} were accepted")
        ends = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
        lines.append(f"| {kind} | {len(numbers)} | {ends} | {max(attempts, default='')} |")
    if len(weights) > 1:
        wrong.append(f"equal train jobs ended with {len(weights)} different weights")
    if len(set(pictures)) > 1:
        wrong.append(f"equal generate jobs have {len(set(pictures))} different results")
    return lines, wrong


def main() -> None:
    """Run a campaign and print its tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    draw, done = random.Random(chosen.seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="darkroom-faults-") as folder:
        stack = Stack(Path(folder))
        try:
            traffic = Traffic(stack)
            traffic.begin()
            inflicted = faults(stack, draw)
            until, plan = time.monotonic() + 60.0 * chosen.minutes, list[str]()
            while time.monotonic() < until:
                if traffic.unfinished() < 4:
                    traffic.submit()
                plan = plan or draw.sample(sorted(inflicted), len(inflicted))
                time.sleep(draw.uniform(0.5, 5.0))
                name = plan.pop()
                print(f"{name} ...", file=sys.stderr, flush=True)
                inflicted[name]()
                done[name] += 1
                wait_until(stack.is_ready, "the service is ready again")
            wait_until(lambda: traffic.unfinished() == 0, "every job has ended")
            traffic.stop()
            lines, wrong = judged(traffic)
            database = Database(stack.database_url)
            with database.session() as session:
                wrong += history_faults(session)
            database.dispose()
        finally:
            stack.stop()
    print("| fault | times |\n| --- | ---: |")
    print("\n".join(f"| {name} | {times} |" for name, times in sorted(done.items())))
    print("\n| jobs | accepted | ended | most attempts |\n| --- | ---: | --- | ---: |")
    print("\n".join(lines))
    print("\n| POST /generate | answers |\n| --- | ---: |")
    print("\n".join(f"| {status or 'no connection'} | {times} |" for status, times in sorted(traffic.answers.items())))
    print(f"\n{len(wrong)} laws were broken", *dict.fromkeys(wrong), sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
