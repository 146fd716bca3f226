"""Measures PostgreSQL's settings for checkpoints of gigabytes: `python -m bench.checkpoint_store`.

It stores checkpoints of a 500 MB model as a work process does. PostgreSQL has its own defaults, and then each of the
`--settings`, in turns. Each server is new and has the memory of its container. Between two checkpoints it has the time
to write all buffers, as in a training. Needs root and cgroups of version 1.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.large_model import Group
from bench.scale.server import Server, server
from darkroom.store.database import Database
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import Claimant, Lease, claim_job, submit_job
from darkroom.worker.training import JobRecord
from tests.model.small import small_recipe
from tests.processes import family_of

STATE_OF_WEIGHTS = 4
"""A state has the weights, their average and two moments of the optimizer."""
MEMORY_GIB = 4.0

HEAD = (
    "| settings | first checkpoint | later ones | ratio to the defaults | log | all writes | checkpoints forced |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


@dataclass(frozen=True)
class Run:
    """What one server did. seconds: of each stored checkpoint. written: see `Server.written`."""

    seconds: list[float]
    written: Counter[str]


def variants(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the settings to compare, each from a text as `NAME=VALUE NAME=VALUE`; the defaults first."""
    return {"defaults": {}} | {f"`{text}`": dict(one.split("=", 1) for one in text.split()) for text in texts}


def store(running: Server, checkpoints: Iterator[tuple[bytes, bytes]]) -> Run:
    """Store checkpoints for a job."""
    database = Database(running.url)
    work = TrainWork(recipe=small_recipe())
    with database.session() as session:
        configuration = work.model_dump(mode="json")
        submit_job(session, kind="train", model_name="large", configuration=configuration, total_images=10**9)
    with database.session() as session:
        job = claim_job(session, Claimant("bench", "cpu"), 3600.0)
        assert job is not None
    record = JobRecord(database, job.id, Lease(job.id, job.attempt), work, ["class"])
    seconds, written = [], Counter[str]()
    for number, (weights, state) in enumerate(checkpoints, 1):
        before, began = running.written(), time.monotonic()
        record.checkpoint(number, weights, state)
        record.flush()
        seconds.append(time.monotonic() - began)
        forced = running.written()["forced"]
        running.write_buffers()
        written += running.written() - before
        written["forced"] += forced - running.written()["forced"]  # not the one that this bench asks for
    database.dispose()
    return Run(seconds, written)


def contents(weights_bytes: int, checkpoints: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield weights and state of each checkpoint, which no compression makes smaller."""
    same = os.urandom(weights_bytes - 8)
    for _ in range(checkpoints):
        own = os.urandom(8)
        yield own + same, b"".join([own, *[same] * STATE_OF_WEIGHTS])


def measure(settings: Mapping[str, str], weights_bytes: int, checkpoints: int) -> Run:
    """Store checkpoints in a new server with these settings."""
    with tempfile.TemporaryDirectory() as folder, Group("postgres", MEMORY_GIB) as group:
        Path(folder).chmod(0o755)
        with server(Path(folder) / "server", settings) as running:
            group.add(family_of(running.postmaster()))
            return store(running, contents(weights_bytes, checkpoints))


def row(name: str, runs: list[Run], defaults: list[Run]) -> str:
    """Return a line of the table: medians over the rounds."""

    def later(found: list[Run]) -> float:
        return statistics.median(statistics.mean(run.seconds[1:]) for run in found)

    ratios = [
        statistics.mean(one.seconds[1:]) / statistics.mean(two.seconds[1:])
        for one, two in zip(runs, defaults, strict=True)
    ]
    return (
        f"| {name} | {statistics.median(run.seconds[0] for run in runs):.1f} s | {later(runs):.1f} s "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {statistics.median(run.written['log'] for run in runs) / 1e9:.1f} GB "
        f"| {statistics.median(run.written['files'] for run in runs) / 1e9:.1f} GB "
        f"| {', '.join(str(run.written['forced']) for run in runs)} |"
    )


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--checkpoints", type=int, default=3, help="of each server; at least 2")
    arguments.add_argument("--weights-mib", type=int, default=467, help="467: 122 million parameters in float32")
    arguments.add_argument("--settings", nargs="*", default=[], metavar="SETTINGS", help="as 'NAME=VALUE NAME=VALUE'")
    chosen = arguments.parse_args()
    compared = variants(chosen.settings)
    runs: dict[str, list[Run]] = {name: [] for name in compared}
    for _ in range(chosen.rounds):
        for name, settings in compared.items():
            runs[name].append(measure(settings, chosen.weights_mib << 20, chosen.checkpoints))
            print(f"{name}: {runs[name][-1]}", flush=True)
    print(f"\n{HEAD}")
    for name, found in runs.items():
        print(row(name, found, runs["defaults"]))


if __name__ == "__main__":
    main()
