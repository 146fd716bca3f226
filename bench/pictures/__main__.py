"""Makes the pictures of docs/ and weights/ anew, from the shipped weights and stored measurements: `make pictures`.

python -m bench.pictures [--only results card console]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

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
from bench.pictures.origin import faults, pictures
from bench.pictures.samples import write_samples
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.datasets import DatasetError

LOSSES = WEIGHTS.with_name(f"{WEIGHTS.stem}-losses.csv")


def write_results() -> None:
    """The pictures of docs/results.md."""
    write_samples()
    report.write_pictures()


def write_card() -> None:
    """The pictures of the model card. Without the training images, the one that shows some of them stays."""
    checkpoint = load_checkpoint(WEIGHTS)
    header, denoiser = checkpoint.header, checkpoint.denoiser()
    write_loss(WEIGHTS, LOSSES, training_log(LOSSES.read_text(), header.images_seen, source=str(LOSSES)))
    write_grid(WEIGHTS, generate(denoiser, header.sampling, COLUMNS))
    try:
        _, train, _ = load_halves(header, CACHE_PATH)
    except DatasetError as error:
        print(f"{WEIGHTS.stem}-nearest.png is not made anew: {error}", file=sys.stderr)
        return
    images = generate(denoiser, header.sampling, IMAGES_PER_CLASS)
    write_pairs(WEIGHTS, images, train.images, nearest(flat(images), train.images))


GROUPS = {"results": write_results, "card": write_card, "console": write_console}


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
