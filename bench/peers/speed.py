"""How fast each contender trains alone: `python -m bench.peers.speed`, in Darkroom's environment.

Short rounds in turns, each contender in processes and an environment of its own, so that what else the machine does
meets all of them alike. A core each for two processes is often faster than two threads of one process, and all three
libraries can train so (DistributedDataParallel): both are measured, and the better median counts. It tells how many
images a budget in minutes is worth, for runs that have to share the machine (`--images` of `bench.peers.train`,
`training.total_images` of a recipe).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench.peers.contender import LIBRARIES, Settings, library
from bench.peers.train import CACHE, RECIPE, data_set, new_run
from darkroom.model.config import load_recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.training.trainer import Trainer

PEERS_PYTHON = Path(".peers/bin/python")
DARKROOM = "darkroom"
SIZES = ("small", "medium", "large")
WARM_UP_STEPS = 3
WAYS = {"two threads": (1, 2), "two processes": (2, 1)}
"""How two cores are used: (processes, threads of each)."""


def _darkroom(recipe_path: Path, dataset: ImageDataset) -> tuple[Callable[[], object], int]:
    """(one training step, images of a step)"""
    recipe = load_recipe(recipe_path)
    return Trainer(recipe, dataset, torch.device("cpu")).step, recipe.training.batch_size


def _peer(name: str, size: str, dataset: ImageDataset) -> tuple[Callable[[], object], int]:
    batch = library(name).BATCH_IMAGES
    settings = Settings(name, size, 0, batch, library(name).LEARNING_RATE, None, len(dataset))
    run = new_run(settings, dataset)
    return lambda: run.step(dataset), batch


def images_per_second(step: Callable[[], object], batch: int, seconds: float) -> float:
    """The speed over so many seconds, after a few steps that do not count."""
    for _ in range(WARM_UP_STEPS):
        step()
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        images += batch
    return images / (time.perf_counter() - began)


def _in_own_processes(name: str, size: str, way: str, arguments: argparse.Namespace) -> float:
    """images/s of all processes together"""
    processes, threads = WAYS[way]
    python = sys.executable if name == DARKROOM else str(PEERS_PYTHON)
    command = [python, "-m", "bench.peers.speed", "--measure", name, size, "--seconds", str(arguments.seconds)]
    where = ["--recipe", str(arguments.recipe), "--cache", str(arguments.cache)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen([*command, *where], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in running)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a round")
    parser.add_argument("--minutes", type=float, default=45.0, help="the budget that the images are told for")
    parser.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES, help="of the peers' networks")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="Darkroom's, which also names the data set")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of decoded data sets")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, size = arguments.measure
        dataset = data_set(arguments.recipe, arguments.cache)
        step, batch = _darkroom(arguments.recipe, dataset) if name == DARKROOM else _peer(name, size, dataset)
        print(images_per_second(step, batch, arguments.seconds))
        return
    contenders = [(DARKROOM, arguments.recipe.stem), *((name, size) for name in LIBRARIES for size in arguments.sizes)]
    speeds: dict[tuple[str, str, str], list[float]] = {(*who, way): [] for who in contenders for way in WAYS}
    for number in range(arguments.rounds):
        for name, size, way in speeds:
            speeds[name, size, way].append(_in_own_processes(name, size, way, arguments))
            print(
                f"round {number + 1}: {name}, {size}, {way}: {speeds[name, size, way][-1]:.1f} images/s",
                file=sys.stderr,
            )
    print(f"| contender | network | way | images/s, by round | median | images in {arguments.minutes:g} minutes |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for (name, size, way), measured in speeds.items():
        middle, each = statistics.median(measured), " ".join(f"{speed:.1f}" for speed in measured)
        print(f"| {name} | {size} | {way} | {each} | {middle:.1f} | {int(middle * 60 * arguments.minutes):,} |")


if __name__ == "__main__":
    main()
