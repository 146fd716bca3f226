"""Measures how fast each contender trains alone: `python -m bench.peers.speed`, in Darkroom's environment.

The contenders train in turns, in short rounds, so that other programs disturb all of them alike. Each has its own
processes and environment. Two processes with one core each are often faster than one process with two threads, and all
three libraries support that (DistributedDataParallel). The benchmark measures both ways and takes the better median.
The result converts a budget in minutes to a number of images, for runs that must share the machine (`--images` of
`bench.peers.train`, `training.total_images` of a recipe).
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
"""Ways to use two cores: (processes, threads of each)."""


def _darkroom(recipe_path: Path, dataset: ImageDataset) -> tuple[Callable[[], object], int]:
    """Return one training step and its number of images."""
    recipe = load_recipe(recipe_path)
    return Trainer(recipe, dataset, torch.device("cpu")).step, recipe.training.batch_size


def _peer(name: str, size: str, dataset: ImageDataset) -> tuple[Callable[[], object], int]:
    batch = library(name).BATCH_IMAGES
    settings = Settings(name, size, 0, batch, library(name).LEARNING_RATE, None, len(dataset))
    run = new_run(settings, dataset)
    return lambda: run.step(dataset), batch


def images_per_second(step: Callable[[], object], batch: int, seconds: float) -> float:
    """Return the speed over `seconds`, after a few steps that are not measured."""
    for _ in range(WARM_UP_STEPS):
        step()
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        images += batch
    return images / (time.perf_counter() - began)


def _in_own_processes(name: str, size: str, way: str, arguments: argparse.Namespace) -> float:
    """Return the images per second of all processes together."""
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
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a round")
    parser.add_argument("--minutes", type=float, default=45.0, help="budget to convert to a number of images")
    parser.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES, help="size of the peers' networks")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="recipe of Darkroom and the data set")
    parser.add_argument("--cache", type=Path, default=CACHE, help="cache of decoded data sets")
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
