"""Measures how many images a second a recipe trains on a device, once for each network."""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from darkroom.model.config import Recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.progress import OnProgress, silent
from darkroom.model.training.run import LOG_EVERY_ITERATIONS
from darkroom.model.training.trainer import Trainer, compiles

TIMED_SECONDS = 2.0
TIMED_STEPS = 3
"""The least time and the fewest steps that a measurement takes, after one step that is not timed."""


def measured_speed(
    device: torch.device,
    cache: Path,
    clock: Callable[[], float] = time.perf_counter,
    on_progress: OnProgress = silent,
) -> Callable[[Recipe], float]:
    """Return a function from a recipe to its training images per second on `device`.

    cache: a folder; the file `speeds.json` in it keeps the figures of this machine. clock: seconds from any start.
    on_progress: told which network is measured; how many there will be depends on their speed.
    """
    numbers = itertools.count(1)

    def speed(recipe: Recipe) -> float:
        file = cache / "speeds.json"
        known = _read(file)
        key = _key(recipe, device)
        if key not in known:
            on_progress(f"measuring network {next(numbers)}", 0, None)
            known[key] = _measure(recipe, device, clock)
            _write(file, _read(file) | known)
        return known[key]

    return speed


def _measure(recipe: Recipe, device: torch.device, clock: Callable[[], float]) -> float:
    """Train on random pictures for some steps."""
    batch, side = recipe.training.batch_size, recipe.model.image_size
    training = recipe.training.model_copy(update={"total_images": 2**40})
    images = np.random.default_rng(0).integers(0, 256, (batch, recipe.model.image_channels, side, side), dtype=np.uint8)
    dataset = ImageDataset(images, np.arange(batch) % 2, ("a", "b"), "sha256:random")
    trainer = Trainer(recipe.model_copy(update={"training": training}), dataset, device)
    trainer.step()
    start, steps = clock(), 0
    while steps < TIMED_STEPS or clock() - start < TIMED_SECONDS:
        trainer.advance()
        steps += 1
        if steps % LOG_EVERY_ITERATIONS == 0:
            trainer.read()  # as a run does
    trainer.read()  # a GPU has finished then
    return steps * batch / (clock() - start)


def _key(recipe: Recipe, device: torch.device) -> str:
    """A digest of everything that decides the speed."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    training = recipe.training
    facts = (
        str(device.type),
        name,
        torch.get_num_threads(),
        torch.__version__,
        recipe.model.model_dump(mode="json"),
        recipe.optimizer.name,
        training.batch_size,
        training.precision,
        compiles(recipe, device),
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(file: Path) -> dict[str, float]:
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in data.items() if isinstance(value, float)} if isinstance(data, dict) else {}


def _write(file: Path, known: dict[str, float]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(known))
    part.replace(file)
