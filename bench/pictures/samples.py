"""Draws unselected pictures with fixed seeds: a random batch, interpolations, and the best and worst by a score."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.experiments.guidance import WEIGHTS
from bench.pictures.origin import write_picture
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.images.pictures import grid, png
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.sampling.scoring import score

FOLDER = Path("docs/results")
SEED = 2024
COLUMNS = 16
ROWS = 8
INTERPOLATED = 12
"""Number of images from one end to the other, with both ends."""
DRAWN = 32
SHOWN = 6
"""Number of images drawn for a class, and number of the best and of the worst that are shown."""


def random_batch(denoiser: Denoiser, sampling: SamplingConfig) -> bytes:
    """Draw a PNG of images 0, 1, 2, ... of one seed. A generator with the same seed draws their classes."""
    labels = np.random.default_rng(SEED).integers(len(denoiser.class_names), size=ROWS * COLUMNS)
    plans = [
        plan_row(denoiser, sampling, label=int(label), seed=SEED, index=index) for index, label in enumerate(labels)
    ]
    return png(grid(to_pixels(sample(denoiser, plans)), COLUMNS), scale=2)


def interpolations(denoiser: Denoiser, sampling: SamplingConfig) -> bytes:
    """Draw a PNG, one line per class: from the latent of SEED to that of SEED + 1 spherically, as POST /interpolate."""
    mixes = np.linspace(0.0, 1.0, INTERPOLATED)
    plans = [
        plan_row(denoiser, sampling, label=label, seed=SEED, end_seed=SEED + 1, mix=float(mix))
        for label in range(len(denoiser.class_names))
        for mix in mixes
    ]
    return png(grid(to_pixels(sample(denoiser, plans)), INTERPOLATED), scale=2)


def class_mixtures(denoiser: Denoiser, sampling: SamplingConfig) -> bytes:
    """Draw a PNG, one line per class: from the class to the next in equal steps, with one latent."""
    classes = len(denoiser.class_names)
    plans = [
        plan_row(denoiser, sampling, label=label, end_label=(label + 1) % classes, seed=SEED, mix=float(mix))
        for label in range(classes)
        for mix in np.linspace(0.0, 1.0, INTERPOLATED)
    ]
    return png(grid(to_pixels(sample(denoiser, plans)), INTERPOLATED), scale=2)


def best_and_worst(denoiser: Denoiser, sampling: SamplingConfig) -> bytes:
    """Draw a PNG, one line per class: the SHOWN of images 0..DRAWN-1 with the highest scores, then with the lowest."""
    rows = []
    for label in range(len(denoiser.class_names)):
        plans = [plan_row(denoiser, sampling, label=label, seed=SEED, index=index) for index in range(DRAWN)]
        images = to_pixels(sample(denoiser, plans))
        scores = score(denoiser, torch.from_numpy(images).permute(0, 3, 1, 2), [label] * DRAWN)
        order = torch.argsort(scores, descending=True, stable=True).numpy()
        rows.append(images[np.concatenate([order[:SHOWN], order[-SHOWN:]])])
    return png(grid(np.concatenate(rows), 2 * SHOWN), scale=2)


PICTURES = (random_batch, interpolations, class_mixtures, best_and_worst)


def path_of(draw: Callable[..., bytes]) -> Path:
    """Return the path of a picture."""
    return FOLDER / f"{draw.__name__.replace('_', '-')}.png"


def write_samples() -> None:
    """Draw all pictures with the shipped model's own settings."""
    checkpoint = load_checkpoint(WEIGHTS)
    denoiser, sampling = checkpoint.denoiser(), checkpoint.header.sampling
    for draw in PICTURES:
        write_picture(path_of(draw), draw(denoiser, sampling), [WEIGHTS])
