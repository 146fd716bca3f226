"""Trains a peer: `python -m bench.peers.train LIBRARY FOLDER --core-minutes 90`, in the peers' environment.

Every contender sees the same images in the same order. The clock counts the processor time of all threads in training
steps only. It does not count reading the data set, building networks, writing states, or waiting for a core. Use one
thread (`OMP_NUM_THREADS=1`): threads that wait for each other waste processor time. Two such processes alone on two
cores do 90 core minutes in 45 minutes.

A stopped run (Ctrl-C, SIGTERM or a crash) continues with `python -m bench.peers.train LIBRARY FOLDER --resume`, with
the same result as if it had not stopped.
"""

import argparse
import io
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bench.peers.contender import LIBRARIES, Contender, Settings, library
from darkroom.model.checkpoint import write_atomically
from darkroom.model.config import load_recipe
from darkroom.model.datasets import load_dataset
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.training.randomness import batch_indices, batch_seed

RECIPE = Path("recipes/fashion-mnist.yaml")
CACHE = Path(".darkroom/datasets")
STATE = "state.pt"
REPORT_EVERY_SECONDS = 15.0


@dataclass
class Run:
    """A contender and its progress. seconds: processor time of its steps so far, over all parts of the run."""

    settings: Settings
    contender: Contender
    images_seen: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> float:
        """The used share of the budget."""
        return self.settings.done(self.seconds, self.images_seen)

    def step(self, dataset: ImageDataset) -> float:
        """Train on the next batch; returns its loss. `images_seen` fixes the batch and the random numbers."""
        began = time.process_time()
        settings = self.settings
        indices = batch_indices(len(dataset), settings.seed, self.images_seen, settings.batch_images)
        torch.manual_seed(batch_seed(settings.seed, self.images_seen))
        pixels, labels = torch.from_numpy(dataset.images[indices]), torch.from_numpy(dataset.labels[indices])
        loss = self.contender.step(pixels, labels, self.done)
        self.images_seen += settings.batch_images
        self.seconds += time.process_time() - began
        return loss

    def save(self, folder: Path) -> None:
        """Write the state, whole or not at all."""
        content = {
            "settings": asdict(self.settings),
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "contender": self.contender.state(),
        }
        file = io.BytesIO()
        torch.save(content, file)
        write_atomically(folder / STATE, file.getvalue())


def new_run(settings: Settings, dataset: ImageDataset) -> Run:
    """Return a run that has seen no image yet."""
    torch.manual_seed(settings.seed)
    classes, (_, channels, side, _) = len(dataset.class_names), dataset.images.shape
    return Run(settings, library(settings.contender).build(settings, classes, channels, side))


def load_run(folder: Path, dataset: ImageDataset) -> Run:
    """Load a run's last saved state. Reading the file executes nothing."""
    content: dict[str, Any] = torch.load(folder / STATE, weights_only=True)
    run = new_run(Settings(**content["settings"]), dataset)
    run.contender.restore(content["contender"])
    run.images_seen, run.seconds = content["images_seen"], content["seconds"]
    return run


def data_set(recipe: Path, cache: Path) -> ImageDataset:
    """Load the recipe's training images."""
    return load_dataset(load_recipe(recipe).dataset, cache)


def train(run: Run, dataset: ImageDataset, folder: Path, save_every_seconds: float) -> None:
    """Train until the budget is used up or a signal asks to stop, then save the state."""
    stop = False

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    saved = reported = run.seconds
    images, losses = run.images_seen, []
    while run.done < 1.0 and not stop:
        losses.append(run.step(dataset))
        if run.seconds - reported >= REPORT_EVERY_SECONDS or run.done >= 1.0:
            speed = (run.images_seen - images) / (run.seconds - reported)
            print(
                f"{run.images_seen:,} images, {run.seconds / 60:.1f} core min, {run.done:.1%} of the budget, "
                f"loss {sum(losses) / len(losses):.4f}, {speed:.1f} images/s",
                file=sys.stderr,
            )
            reported, images, losses = run.seconds, run.images_seen, []
        if run.seconds - saved >= save_every_seconds:
            run.save(folder)
            saved = run.seconds
    run.save(folder)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("folder", type=Path, help="folder of the run")
    parser.add_argument("--core-minutes", type=float, help="the budget, in minutes of one core's time")
    parser.add_argument("--images", type=int, help="the budget, in images")
    parser.add_argument("--resume", action="store_true", help="continue the folder's run with its own settings")
    parser.add_argument("--size", help="size of the network; default: the library's first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-images", type=int, help="default: the library's example")
    parser.add_argument("--learning-rate", type=float, help="default: the library's example")
    parser.add_argument("--save-every-seconds", type=float, default=120.0)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="recipe that names the data set")
    parser.add_argument("--cache", type=Path, default=CACHE, help="cache of decoded data sets")
    arguments = parser.parse_args()
    wrapper, dataset = library(arguments.library), data_set(arguments.recipe, arguments.cache)
    if arguments.resume:
        run = load_run(arguments.folder, dataset)
        if run.settings.contender != arguments.library:
            parser.error(f"{arguments.folder} has a run of {run.settings.contender}; name another folder")
    else:
        if (arguments.folder / STATE).exists():
            parser.error(f"{arguments.folder} has a run already; --resume continues it")
        if (arguments.core_minutes is None) == (arguments.images is None):
            parser.error("give either --core-minutes or --images")
        size = arguments.size or wrapper.SIZES[0]
        if size not in wrapper.SIZES:
            parser.error(f"--size must be one of {', '.join(wrapper.SIZES)}")
        settings = Settings(
            contender=arguments.library,
            size=size,
            seed=arguments.seed,
            batch_images=arguments.batch_images or wrapper.BATCH_IMAGES,
            learning_rate=arguments.learning_rate or wrapper.LEARNING_RATE,
            budget_seconds=None if arguments.core_minutes is None else arguments.core_minutes * 60.0,
            budget_images=arguments.images,
        )
        run = new_run(settings, dataset)
    print(
        f"{wrapper.TITLE} {wrapper.version()}, {run.settings.size}: {run.contender.parameters:,} parameters, "
        f"{torch.get_num_threads()} threads, at {run.images_seen:,} images",
        file=sys.stderr,
    )
    train(run, dataset, arguments.folder, arguments.save_every_seconds)
    speed = run.images_seen / run.seconds
    print(f"{run.images_seen:,} images in {run.seconds / 60:.1f} core minutes of training, {speed:.1f} images/s")


if __name__ == "__main__":
    main()
