"""Checks whether the score of `best_of` finds the better images, by the verdicts of an independent judge.

python -m bench.best_of CHECKPOINT [--images-per-class N] [--guidance W ...] [--sampler NAME] [--steps N]
                        [--out FILE]

The judge is a classifier that was trained on the real images (`python -m bench.judge train`). For each class it judges
all images, the quarter with the highest scores, and the quarter with the lowest.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from bench.agreement import Pixels, check_classes, generate
from bench.classifier import Classifier, load_classifier, predict
from bench.judge import JUDGE_PATH, positive, with_overrides
from darkroom.model.checkpoint import CheckpointError, load_checkpoint, write_atomically
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.sampling.scoring import SCORE_NAME, SCORE_STEPS, score

SHARE = 0.25


@dataclass(frozen=True)
class Separation:
    """Shares (0..1) of images in which the judge sees the requested class: the best by score, all, and the worst.

    likelier: share of pairs within a class in which the image that shows its class scores above one that does not.
    """

    guidance: float
    images: int
    best: float
    all: float
    worst: float
    likelier: float


def scores_of(denoiser: Denoiser, images: Pixels) -> npt.NDArray[np.float64]:
    """Return scores (classes, n) of images (classes, n, H, W, C)."""
    classes, count = images.shape[:2]
    flat = torch.from_numpy(images.reshape(classes * count, *images.shape[2:])).permute(0, 3, 1, 2)
    labels = [label for label in range(classes) for _ in range(count)]
    return score(denoiser, flat, labels).double().numpy().reshape(classes, count)


def right_ones(judge: Classifier, images: Pixels) -> npt.NDArray[np.bool_]:
    """Return (classes, n): true where the judge sees the requested class."""
    classes, count = images.shape[:2]
    flat = torch.from_numpy(images.reshape(classes * count, *images.shape[2:])).permute(0, 3, 1, 2)
    predicted = predict(judge.network, flat).numpy().reshape(classes, count)
    found: npt.NDArray[np.bool_] = predicted == np.arange(classes)[:, None]
    return found


def separation(guidance: float, scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> Separation:
    """Compare a judge's verdicts with scores, both (classes, n). All classes have the same weight."""
    count = scores.shape[1]
    ordered = np.take_along_axis(right, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    quarter = max(1, round(SHARE * count))
    wins, pairs = 0.0, 0
    for own, seen in zip(scores, right, strict=True):
        differences = own[seen][:, None] - own[~seen][None]
        wins += float((differences > 0).sum() + 0.5 * (differences == 0).sum())
        pairs += differences.size
    return Separation(
        guidance,
        right.size,
        float(ordered[:, :quarter].mean()),
        float(right.mean()),
        float(ordered[:, -quarter:].mean()),
        wins / pairs if pairs else float("nan"),
    )


def separation_table(results: Sequence[Separation]) -> str:
    """A Markdown table with one line for each guidance weight."""
    lines = [
        f"| guidance | images | best {SHARE:.0%} | all | worst {SHARE:.0%} | right scores above wrong |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.guidance:g} | {one.images:,} | {one.best:.1%} | {one.all:.1%} | {one.worst:.1%} | {one.likelier:.1%} |"
        for one in results
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.best_of", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images-per-class", type=positive, default=100)
    parser.add_argument("--guidance", type=float, nargs="+", metavar="W", help="default: the checkpoint's")
    parser.add_argument("--sampler", choices=list(SAMPLERS), help="default: the checkpoint's")
    parser.add_argument("--steps", type=positive, help="default: the checkpoint's")
    parser.add_argument("--judge", type=Path, default=JUDGE_PATH)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table to this file")
    arguments = parser.parse_args(argv)
    try:
        judge, checkpoint = load_classifier(arguments.judge), load_checkpoint(arguments.checkpoint)
        check_classes(checkpoint, judge.header)
        denoiser, defaults = checkpoint.denoiser(), checkpoint.header.sampling
        flags = {"steps": arguments.steps, "sampler": arguments.sampler}
        results = []
        for guidance in arguments.guidance or [defaults.guidance]:
            images = generate(
                denoiser, with_overrides(defaults, {**flags, "guidance": guidance}), arguments.images_per_class
            )
            results.append(separation(guidance, scores_of(denoiser, images), right_ones(judge, images)))
            print(f"guidance {guidance:g}: {results[-1]}", file=sys.stderr)
    except (CheckpointError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sampling = with_overrides(defaults, flags)
    low_high = sampling.guidance_interval
    where = f", guided between sigma/alpha {low_high[0]:g} and {low_high[1]:g}" if low_high else ""
    text = (
        f"Agreement with the requested class by {SCORE_NAME} ({SCORE_STEPS} terms): {checkpoint.header.name}, "
        f"{checkpoint.digest}; {sampling.sampler}, {sampling.steps} steps{where}, "
        f"{arguments.images_per_class} images per class.\n\n{separation_table(results)}"
    )
    print(text)
    if arguments.out is not None:
        write_atomically(arguments.out, f"{text}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
