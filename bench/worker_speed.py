"""Compares a worker's training speed with the command line's, and measures its memory: `python -m bench.worker_speed`.

Both train the same recipe in turns, with the same niceness and threads. The servers and the worker are started here
with default settings. The speed is the training loop's own figure, without the first line of each run. Machines differ
and other programs disturb them, so look at the ratios of medians and of the fastest lines. The memory is the largest
seen while jobs ran, of the worker's main process and of the pool's process, which supervises the job.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from bench.service import repeating
from darkroom.model.config import Recipe, load_recipe
from darkroom.model.datasets import load_dataset
from darkroom.model.training.run import LOG_EVERY_ITERATIONS
from darkroom.store.dataset_repository import DatasetFacts, register_dataset
from darkroom.store.tables import JobMetric
from darkroom.worker.settings import WorkerSettings
from tests.system.cluster import TIMES, Cluster, cluster

ROOT = Path(__file__).parents[1]
THREADS = {"OMP_NUM_THREADS": str(os.cpu_count())}
GOAL_RATIO = 0.97
GOAL_BYTES = 100e6
MEMORY = {"resident": ("Rss:",), "proportional": ("Pss:",), "own": ("Private_Clean:", "Private_Dirty:")}
"""Lines of /proc/PID/smaps_rollup that are added up for each kind of memory."""


def short_run(path: Path, lines: int) -> Recipe:
    """Shorten the recipe to `lines` points of the training curve, with little work besides the training."""
    recipe = load_recipe(path)
    images = recipe.training.batch_size * LOG_EVERY_ITERATIONS * lines
    only_training = {
        "total_images": images,
        "checkpoint_every_images": images,
        "sample_every_images": images,
        "samples_per_class": 1,
    }
    return recipe.model_copy(
        update={
            "training": recipe.training.model_copy(update=only_training),
            "sampling": recipe.sampling.model_copy(update={"steps": 1}),
            "evaluation": None,
        }
    )


def from_the_command_line(recipe: Recipe, folder: Path, cache: Path) -> list[float]:
    """Run `darkroom train`; returns the images per second of each curve point."""
    folder.mkdir()
    path = folder / "recipe.yaml"
    path.write_text(recipe.model_dump_json())  # JSON is YAML
    nice = ["nice", "-n", str(WorkerSettings.model_fields["niceness"].default)]
    command = [
        sys.executable,
        "-c",
        "from darkroom.app.cli.main import main; main()",
        "train",
        str(path),
        "--device",
        "cpu",
    ]
    where = ["--folder", str(folder / "run"), "--datasets", str(cache)]
    subprocess.run([*nice, *command, *where], cwd=ROOT, env=os.environ | THREADS, check=True, capture_output=True)
    with (folder / "run" / "losses.csv").open(newline="") as file:
        return [float(line["images_per_second"]) for line in csv.DictReader(file)]


def in_the_worker(running: Cluster, recipe: Recipe, dataset_id: int) -> list[float]:
    """Run a train job; returns the images per second of each curve point."""
    job_id = running.submit(recipe, dataset_id)
    running.send_hints(1)
    done = running.wait_for(job_id, "succeeded", "failed")
    assert done.status == "succeeded", done.failure
    speeds = select(JobMetric.images_per_second).where(JobMetric.job_id == job_id).order_by(JobMetric.images_seen)
    with running.database.session() as session:
        return list(session.scalars(speeds))


def register(running: Cluster, recipe: Recipe, cache: Path) -> int:
    """Register the recipe's data set by its path; returns its id."""
    dataset = load_dataset(recipe.dataset, cache)
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    _, channels, side, _ = dataset.images.shape
    facts = DatasetFacts(
        recipe.dataset.format, dataset.digest, dataset.class_names, [int(n) for n in counts], channels, side
    )
    with running.database.session() as session:
        return register_dataset(session, recipe.name, facts, recipe.dataset, b"no picture").dataset.id


class Memory:
    """The largest memory seen in each of the worker's processes. bytes: process -> kind of memory -> bytes."""

    def __init__(self, running: Cluster) -> None:
        self._running = running
        self.bytes: dict[str, dict[str, int]] = {}

    def look(self) -> None:
        """Look once."""
        self._note("main process", self._running.processes["worker"].pid)
        for pid in self._running.supervisors():
            with suppress(OSError):  # it has ended
                self._note("supervisor", pid)

    def _note(self, process: str, pid: int) -> None:
        rollup = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
        held = {name: 1024 * sum(int(line[1]) for line in rollup if line[0] in lines) for name, lines in MEMORY.items()}
        most = self.bytes.setdefault(process, held)
        self.bytes[process] = {kind: max(most[kind], held[kind]) for kind in MEMORY}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "fashion-mnist.yaml")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--lines", type=int, default=4, help="curve points in a run; the first is not measured")
    parser.add_argument("--datasets", type=Path, default=Path(".darkroom/datasets"), help="cache of decoded data sets")
    arguments = parser.parse_args()
    cache = arguments.datasets.resolve()
    recipe = short_run(arguments.recipe, arguments.lines)
    defaults = {name: WorkerSettings.model_fields[name.removeprefix("DARKROOM_").lower()].default for name in TIMES}
    environment = {name: str(value) for name, value in defaults.items()} | THREADS
    command_line: list[list[float]] = []
    worker: list[list[float]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder), "worker", warm=False, DARKROOM_CACHE_FOLDER=str(cache), **environment) as running,
    ):
        dataset_id = register(running, recipe, cache)
        memory = Memory(running)
        for number in range(arguments.rounds):
            command_line.append(from_the_command_line(recipe, Path(folder, f"run-{number}"), cache)[1:])
            with repeating(memory.look, 1.0):
                worker.append(in_the_worker(running, recipe, dataset_id)[1:])
            time.sleep(1.0)  # let the worker tidy up
    Console(width=160).print(table(recipe, command_line, worker, memory))


def table(recipe: Recipe, command_line: list[list[float]], worker: list[list[float]], memory: Memory) -> Table:
    """A table of all figures. Other programs have disturbed the fastest line of each run least."""
    table = Table("what", "figure", "goal", "by round", box=None)
    for what, of_run in (("median", statistics.median), ("fastest", max)):
        figures = []
        for where, runs in (("command line", command_line), ("worker", worker)):
            figures.append(of_run([speed for run in runs for speed in run]))
            each = " ".join(f"{of_run(run):.1f}" for run in runs)
            table.add_row(f"{recipe.name}, {where}, {what}", f"{figures[-1]:.1f} images/s", "", each)
        each = " ".join(f"{of_run(b) / of_run(a):.3f}" for a, b in zip(command_line, worker, strict=True))
        table.add_row("worker / command line", f"{figures[1] / figures[0]:.3f}", f">= {GOAL_RATIO}", each)
    for process, held in memory.bytes.items():
        figure = ", ".join(f"{name} {held[name] / 1e6:.0f} MB" for name in MEMORY)
        goal = f"< {GOAL_BYTES / 1e6:.0f} MB" if process == "supervisor" else ""
        table.add_row(process, figure, goal, "")
    return table


if __name__ == "__main__":
    main()
