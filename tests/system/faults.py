"""A fault campaign: while jobs run, processes die or stop and messages are lost or repeated, at random moments.

`python -m tests.system.faults --faults 50 --seed 1` prints a table of the results.
"""

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.history import faults as faults_in_history
from bench.service import repeating
from darkroom.model.config import Recipe
from darkroom.store.job_repository import FINISHED, events_after
from darkroom.store.run_repository import job_checkpoints
from tests.processes import wait_until
from tests.system.cluster import LEASE_SECONDS, Cluster, cluster, signal_all

WORKERS = ("first", "second")
BETWEEN_SECONDS = (0.2, 2.5)


@dataclass
class Report:
    """The results of a campaign. doubled: jobs on which two work processes ran at the same time.

    broken_laws: what `bench/history.py` has found in the events.
    """

    faults: Counter[str] = field(default_factory=Counter)
    finished: Counter[int] = field(default_factory=Counter)
    attempts: dict[int, int] = field(default_factory=dict)
    statuses: dict[int, str] = field(default_factory=dict)
    weights: dict[int, str] = field(default_factory=dict)
    doubled: set[int] = field(default_factory=set)
    broken_laws: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the results as Markdown."""
        lines = [
            "| fault | times |",
            "| --- | ---: |",
            *(f"| {name} | {n} |" for name, n in sorted(self.faults.items())),
        ]
        lines += [
            "",
            "| job | end | times finished | attempts | seen twice at once | last weights |",
            "|" + " --- |" * 6,
        ]
        for job, status in sorted(self.statuses.items()):
            twice = "yes" if job in self.doubled else "no"
            counts = f"{self.finished[job]} | {self.attempts[job]}"
            lines.append(f"| {job} | {status} | {counts} | {twice} | {self.weights[job][7:19]} |")
        return "\n".join([*lines, "", *(self.broken_laws or ["The events keep all laws of the job protocol."])])


class Campaign:
    """Faults for one cluster. Each fault is repaired: killed processes are restarted, stopped ones continued."""

    def __init__(self, running: Cluster, draw: random.Random) -> None:
        self._running = running
        self._draw = draw
        self.faults: dict[str, Callable[[], None]] = {
            "work process killed": self._kill_work,
            "worker killed": self._kill_worker,
            "reconciler killed": self._kill_reconciler,
            "supervisor stopped beyond its lease": self._stop_supervisor,
            "Redis flushed": running.flush_redis,
            "Redis killed": self._kill_redis,
            "PostgreSQL restarted": self._restart_postgres,
            "PostgreSQL killed": self._kill_postgres,
            "every message repeated": lambda: running.send_hints(5),
            "machine lost": self._lose_machine,
        }

    def inflict(self, name: str) -> None:
        """Do it."""
        self.faults[name]()

    def _kill_work(self) -> None:
        signal_all(self._some(list(self._running.work_processes())), signal.SIGKILL)

    def _kill_worker(self) -> None:
        name = self._draw.choice(WORKERS)
        self._running.kill(name)
        self._running.start_worker(name)

    def _kill_reconciler(self) -> None:
        self._running.kill("reconciler")
        self._running.start_reconciler()

    def _stop_supervisor(self) -> None:
        stale = self._some(self._running.supervisors())
        signal_all(stale, signal.SIGSTOP)
        time.sleep(LEASE_SECONDS + 3.0)
        signal_all(stale, signal.SIGCONT)

    def _kill_redis(self) -> None:
        self._running.redis.kill()
        time.sleep(self._draw.uniform(0.0, 2.0))
        self._running.redis.start()

    def _restart_postgres(self) -> None:
        self._running.postgres.stop()
        self._running.postgres.start()

    def _kill_postgres(self) -> None:
        self._running.postgres.kill()
        time.sleep(self._draw.uniform(0.0, 2.0))
        self._running.postgres.start()

    def _lose_machine(self) -> None:
        for name in list(self._running.processes):
            self._running.kill(name)
        self._running.redis.kill()
        self._running.postgres.kill()
        self._running.postgres.start()
        self._running.redis.start()
        for name in WORKERS:
            self._running.start_worker(name)
        self._running.start_reconciler()

    def _some(self, pids: list[int]) -> list[int]:
        return [self._draw.choice(pids)] if pids else []


def watching(running: Cluster, report: Report) -> AbstractContextManager[None]:
    """Watch for two attempts at the same job at the same time, while the block runs."""

    def watch() -> None:
        attempts: dict[int, set[int]] = {}
        for job, attempt in running.work_processes().values():
            attempts.setdefault(job, set()).add(attempt)
        report.doubled |= {job for job, seen in attempts.items() if len(seen) > 1}

    return repeating(watch, 0.05)


class CampaignJobs:
    """The campaign's jobs, all with one recipe. at_once: how many are unfinished while there are faults."""

    def __init__(self, running: Cluster, recipe: Recipe, at_once: int) -> None:
        self._running = running
        self._recipe = recipe
        self._at_once = at_once
        self._dataset_id = running.register()
        self.ids: list[int] = []
        self.top_up()

    def top_up(self) -> None:
        """Let as many jobs be unfinished as there were at first, so that every fault meets some."""
        while sum(self._running.job(job_id).status not in FINISHED for job_id in self.ids) < self._at_once:
            name = f"model-{len(self.ids)}"
            self.ids.append(self._running.submit(self._recipe, self._dataset_id, model_name=name, max_attempts=20))


def _wait_for_the_end(running: Cluster, jobs: list[int]) -> None:
    """Wait until all jobs have ended. Fails only if nothing changes for a long time."""

    def seen() -> list[tuple[str, int, int]]:
        return [(row.status, row.attempt, row.images_done) for row in map(running.job, jobs)]

    before = seen()
    while any(status not in FINISHED for status, _, _ in before):
        wait_until(partial(lambda old: seen() != old, before), f"something new of jobs {jobs}, which are {before}")
        before = seen()


def run_campaign(running: Cluster, recipe: Recipe, at_once: int, faults: int, seed: int) -> Report:
    """Inflict `faults` faults at random moments while jobs with the recipe run, then wait for the end of all jobs.

    Each round has every kind of fault once, in random order.
    """
    draw, report = random.Random(seed), Report()
    campaign, jobs = Campaign(running, draw), CampaignJobs(running, recipe, at_once)
    plan: list[str] = []
    while len(plan) < faults:
        plan += draw.sample(list(campaign.faults), len(campaign.faults))
    with watching(running, report):
        for name in plan[:faults]:
            time.sleep(draw.uniform(*BETWEEN_SECONDS))
            campaign.inflict(name)
            report.faults[name] += 1
            jobs.top_up()
        _wait_for_the_end(running, jobs.ids)
    for job in jobs.ids:
        report.statuses[job] = running.job(job).status
        with running.database.session() as session:
            events = events_after(session, job, 0, limit=10_000)
            report.weights[job] = job_checkpoints(session, job)[0][1].digest
        report.finished[job] = sum(e.kind == "status" and e.data["status"] == "succeeded" for e in events)
        report.attempts[job] = running.job(job).attempt
    with running.database.session() as session:
        report.broken_laws = list(faults_in_history(session))
    return report


def main() -> None:
    """Run a campaign and print its table."""
    from tests.system.test_jobs import long_recipe

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--faults", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--jobs", type=int, default=4)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), *WORKERS) as running:
        recipe = long_recipe(training__total_images=9600)
        print(run_campaign(running, recipe, chosen.jobs, chosen.faults, chosen.seed).table())


if __name__ == "__main__":
    main()
