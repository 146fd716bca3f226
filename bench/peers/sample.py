"""Draws images with a trained contender: `python -m bench.peers.sample SOURCE [CHOICE ...] --images-per-class N`.

SOURCE is the folder of a peer's run or a weights file of Darkroom. A choice is SAMPLER-STEPS-GUIDANCE. The default is
every choice that the library documents, one file each. Earlier images are kept: the same command continues where it was
stopped, and a larger number adds images.
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.peers.contender import Choice, library
from bench.peers.darkroom import core_seconds
from bench.peers.drawn import Drawn
from bench.peers.train import CACHE, RECIPE, data_set, load_run
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import SamplingConfig
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample

BATCH_IMAGES = 100
DARKROOM_CHOICES = ("unipc_3-10-1", "unipc_3-10-1.25", "unipc_3-20-1.25", "ddim-50-1")

Draw = Callable[[Tensor, Choice, int], Tensor]
"""(labels (B,), choice, number of the first image) -> images (B, C, H, W) in -1..1."""


def peer(folder: Path, recipe: Path, cache: Path, seed: int) -> tuple[dict[str, Any], Draw, tuple[str, ...]]:
    """Return the facts, the drawing function and the documented choices of a peer's run."""
    run = load_run(folder, data_set(recipe, cache))
    settings, wrapper = run.settings, library(run.settings.contender)
    facts = {
        "contender": wrapper.TITLE,
        "version": wrapper.version(),
        "network": settings.size,
        "parameters": run.contender.parameters,
        "images_seen": run.images_seen,
        "train_seconds": run.seconds,
        "batch_images": settings.batch_images,
        "learning_rate": settings.learning_rate,
        "train_seed": settings.seed,
    }

    def draw(labels: Tensor, choice: Choice, first: int) -> Tensor:
        torch.manual_seed(seed * 1_000_000 + first)
        return run.contender.draw(labels, choice)

    return facts, draw, tuple(wrapper.CHOICES)


def darkroom(path: Path, seed: int) -> tuple[dict[str, Any], Draw, tuple[str, ...]]:
    """Return the facts, the drawing function and the choices of a weights file of `bench.peers.darkroom`.

    Settings that a choice does not name (thresholding, spacing of times) are the model's own.
    """
    checkpoint = load_checkpoint(path)
    header, denoiser = checkpoint.header, checkpoint.denoiser()
    recipe = header.recipe
    facts = {
        "contender": "Darkroom",
        "version": package_version("darkroom"),
        "network": header.name,
        "parameters": sum(weights.numel() for weights in checkpoint.weights.values()),
        "images_seen": header.images_seen,
        "train_seconds": core_seconds(path.parents[1]),
        "batch_images": recipe.training.batch_size if recipe else None,
        "learning_rate": recipe.optimizer.learning_rate if recipe else None,
        "train_seed": recipe.training.seed if recipe else None,
        "spacing": header.sampling.spacing,
        "threshold": header.sampling.threshold,
    }

    def draw(labels: Tensor, choice: Choice, first: int) -> Tensor:
        own = {"sampler": choice.sampler, "steps": choice.steps, "guidance": choice.guidance}
        settings = SamplingConfig.model_validate({**header.sampling.model_dump(), **own})
        plans = [
            plan_row(denoiser, settings, label=label, seed=seed, index=first + place)
            for place, label in enumerate(labels.tolist())
        ]
        return sample(denoiser, plans, batch_rows=len(plans))

    return facts, draw, DARKROOM_CHOICES


def fill(path: Path, facts: dict[str, Any], draw: Draw, choice: Choice, classes: int, images: int) -> None:
    """Draw until the file has at least `images`, and save every batch. Raises ValueError if it has other images.

    The batch size does not depend on the number of images, so a batch's position fixes its images.
    """
    facts = {**facts, "sampler": choice.sampler, "steps": choice.steps, "guidance": choice.guidance}
    parts = [Drawn.load(path)] if path.exists() else []
    if parts and parts[0].facts != facts:
        raise ValueError(f"{path} holds other images ({parts[0].facts}); move it away to draw {facts}")
    count = len(parts[0].labels) if parts else 0
    while count < images:
        began = time.perf_counter()
        labels = np.arange(count, count + BATCH_IMAGES) % classes
        pixels = to_pixels(draw(torch.from_numpy(labels), choice, count))
        drawn = Drawn(pixels, labels, facts)
        if parts:
            both = ((parts[0].images, pixels), (parts[0].labels, labels))
            drawn = Drawn(np.concatenate(both[0]), np.concatenate(both[1]), facts)
        drawn.save(path)
        parts, count = [drawn], count + BATCH_IMAGES
        speed = BATCH_IMAGES / (time.perf_counter() - began)
        print(f"{path}: {count:,} of {images:,} images, {speed:.2f} images/s", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("choices", nargs="*", metavar="CHOICE", help="such as ddim-50-1.5; default: all documented")
    parser.add_argument("--images-per-class", type=int, default=100, help="rounded up to whole batches")
    parser.add_argument("--out", type=Path, help="folder of the npz files; default: `drawn` in the run's folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="recipe that names the data set")
    parser.add_argument("--cache", type=Path, default=CACHE, help="cache of decoded data sets")
    arguments = parser.parse_args()
    source: Path = arguments.source
    if source.is_dir():
        facts, draw, documented = peer(source, arguments.recipe, arguments.cache, arguments.seed)
        out = arguments.out or source / "drawn"
    else:
        facts, draw, documented = darkroom(source, arguments.seed)
        out = arguments.out or source.parents[1] / "drawn"
    classes = len(data_set(arguments.recipe, arguments.cache).class_names)
    facts["seed"] = arguments.seed
    for text in arguments.choices or documented:
        choice = Choice.parse(text)
        path = out / f"{choice}-seed{arguments.seed}-{facts['images_seen']}.npz"
        fill(path, facts, draw, choice, classes, arguments.images_per_class * classes)
        print(path)


if __name__ == "__main__":
    main()
