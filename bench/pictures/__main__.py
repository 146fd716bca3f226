"""Makes the pictures of docs/ and weights/ anew, from the shipped weights and stored measurements: `make pictures`.

python -m bench.pictures [--only results performance card models console]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.agreement import generate
from bench.experiments import report
from bench.experiments.guidance import WEIGHTS
from bench.judge import CACHE_PATH
from bench.model_card import (
    COLUMNS,
    IMAGES_PER_CLASS,
    flat,
    load_halves,
    training_log,
    write_grid,
    write_loss,
    write_pairs,
)
from bench.nearest import nearest
from bench.pictures.console import write_console
from bench.pictures.origin import faults, pictures, write_picture
from bench.pictures.samples import write_samples
from bench.serving.report import MEASUREMENTS, PAGE, write_page
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.datasets import DatasetError
from darkroom.model.images.pictures import grid, png

MODELS = Path("docs/models.png")
SHOWN = {"fashion-mnist": (10, 10), "emoji": (4, 12)}
"""By shipped model: the images of each class in the picture of all models, and the columns there."""


def write_results() -> None:
    """The pictures of docs/results.md."""
    write_samples()
    report.write_pictures()


def write_performance() -> None:
    """The page of the serving benchmark and its picture, from all stored measurements."""
    write_page([json.loads(line) for line in MEASUREMENTS.read_text().splitlines()], MEASUREMENTS, PAGE)


def write_card() -> None:
    """The pictures of the model cards. Without the training images, the one that shows some of them stays."""
    for weights in map(WEIGHTS.with_stem, SHOWN):
        losses = weights.with_name(f"{weights.stem}-losses.csv")
        checkpoint = load_checkpoint(weights)
        header, denoiser = checkpoint.header, checkpoint.denoiser()
        write_loss(weights, losses, training_log(losses.read_text(), header.images_seen, source=str(losses)))
        write_grid(weights, generate(denoiser, header.sampling, COLUMNS))
        try:
            _, train, _ = load_halves(header, CACHE_PATH)
        except DatasetError as error:
            print(f"{weights.stem}-nearest.png is not made anew: {error}", file=sys.stderr)
            continue
        images = generate(denoiser, header.sampling, IMAGES_PER_CLASS)
        write_pairs(weights, images, train.images, nearest(flat(images), train.images))


def write_models() -> None:
    """The picture of the README: the first images of every class of every shipped model, side by side."""
    sheets = []
    for weights in map(WEIGHTS.with_stem, SHOWN):
        checkpoint = load_checkpoint(weights)
        per_class, columns = SHOWN[weights.stem]
        images = generate(checkpoint.denoiser(), checkpoint.header.sampling, per_class)
        sheet = grid(images.reshape(-1, *images.shape[2:]), columns)
        sheets.append(np.broadcast_to(sheet, (*sheet.shape[:2], 3)))
    height = max(len(sheet) for sheet in sheets)
    padded = [np.pad(sheet, ((0, height - len(sheet)), (0, 0), (0, 0)), constant_values=255) for sheet in sheets]
    write_picture(MODELS, png(np.concatenate(padded, axis=1), scale=2), list(map(WEIGHTS.with_stem, SHOWN)))


GROUPS = {
    "results": write_results,
    "performance": write_performance,
    "card": write_card,
    "models": write_models,
    "console": write_console,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 when a picture is still outdated."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="default: all")
    for group in parser.parse_args(argv).only:
        GROUPS[group]()
    found = [fault for picture in pictures(Path()) for fault in faults(picture)]
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
