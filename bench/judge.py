"""Measures whether a model draws the requested classes, by the verdicts of a classifier trained on the real images.

python -m bench.judge train
python -m bench.judge score CHECKPOINT [--guidance W ...] [--images-per-class N] [--steps N] [--sampler NAME]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError

from bench.agreement import FIRST_SEED, agreement, agreement_table, check_classes, generate
from bench.classifier import load_classifier, train_classifier
from darkroom.model.checkpoint import CheckpointError, load_checkpoint
from darkroom.model.config import DatasetConfig, RecipeError, SamplingConfig, ThresholdName, load_recipe
from darkroom.model.datasets import DatasetError, load_dataset
from darkroom.model.extension_points import SAMPLERS

JUDGE_PATH = Path(".darkroom/bench/judge.safetensors")
RECIPE_PATH = Path("recipes/fashion-mnist.yaml")
CACHE_PATH = Path(".darkroom/datasets")
LEAST_TEST_ACCURACY = 0.91
EPOCHS = 4
SEED = 0


def with_split(config: DatasetConfig, split: str) -> DatasetConfig:
    """The configuration of the same data set's `train` or `test` half."""
    return DatasetConfig.model_validate({**config.model_dump(), "split": split})


def with_overrides(sampling: SamplingConfig, overrides: dict[str, Any]) -> SamplingConfig:
    """A checkpoint's sampling defaults, changed by the overrides that are not None; raises ValidationError."""
    return SamplingConfig.model_validate(
        {**sampling.model_dump(), **{name: value for name, value in overrides.items() if value is not None}}
    )


def _train(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(arguments.threads)  # the number of threads changes the order of sums, and so the weights
    config = load_recipe(arguments.recipe).dataset
    train = load_dataset(with_split(config, "train"), cache=arguments.cache)
    test = load_dataset(with_split(config, "test"), cache=arguments.cache)
    began = time.perf_counter()

    def report(epoch: int, loss: float) -> None:
        seconds = time.perf_counter() - began
        print(f"epoch {epoch} of {arguments.epochs}: loss {loss:.4f} after {seconds:.0f} s", file=sys.stderr)

    judge = train_classifier(train, test, epochs=arguments.epochs, seed=arguments.seed, on_epoch=report)
    header = judge.header
    print(f"trained on {len(train):,} images, {header.epochs} epochs, seed {header.seed}")
    print(f"test accuracy {header.test_accuracy:.2%} on {header.test_images:,} images")
    for name, recall in zip(header.class_names, header.recalls, strict=True):
        print(f"  {name}: {recall:.1%}")
    if header.test_accuracy < arguments.least_accuracy:
        print(f"not saved: a judge needs a test accuracy of {arguments.least_accuracy:.0%}", file=sys.stderr)
        return 1
    judge.save(arguments.out)
    print(f"saved to {arguments.out}")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    judge = load_classifier(arguments.judge)
    checkpoint = load_checkpoint(arguments.checkpoint)
    check_classes(checkpoint, judge.header)
    denoiser, defaults = checkpoint.denoiser(), checkpoint.header.sampling
    flags = {"steps": arguments.steps, "sampler": arguments.sampler, "threshold": arguments.threshold}
    results = []
    for guidance in arguments.guidance or [defaults.guidance]:
        sampling = with_overrides(defaults, {**flags, "guidance": guidance})
        results.append(agreement(judge, generate(denoiser, sampling, arguments.images_per_class), guidance))
        print(f"guidance {guidance:g}: {results[-1].overall:.1%}", file=sys.stderr)
    sampling = with_overrides(defaults, flags)
    print(
        f"Agreement with the requested class: {checkpoint.header.name}, {checkpoint.header.images_seen:,} images seen, "
        f"{checkpoint.digest}; {sampling.sampler}, {sampling.steps} steps, threshold {sampling.threshold}; "
        f"{arguments.images_per_class} images per class, seed {FIRST_SEED} + class index.\n"
    )
    print(agreement_table(judge.header, results))
    return 0


def positive(text: str) -> int:
    """Parse an argument that must be a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.judge", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train the judge on the real images and save it")
    train.add_argument("--recipe", type=Path, default=RECIPE_PATH, help="recipe that names the data set")
    train.add_argument("--cache", type=Path, default=CACHE_PATH)
    train.add_argument("--out", type=Path, default=JUDGE_PATH)
    train.add_argument("--epochs", type=positive, default=EPOCHS)
    train.add_argument("--seed", type=int, default=SEED)
    train.add_argument("--least-accuracy", type=float, default=LEAST_TEST_ACCURACY, help="on the test set; 0 to 1")
    train.add_argument("--threads", type=positive, default=1)
    train.set_defaults(run=_train)
    score = commands.add_parser("score", help="judge images that a checkpoint draws")
    score.add_argument("checkpoint", type=Path)
    score.add_argument("--guidance", type=float, nargs="+", metavar="W", help="default: the checkpoint's")
    score.add_argument("--images-per-class", type=positive, default=200)
    score.add_argument("--steps", type=positive, help="default: the checkpoint's")
    score.add_argument("--sampler", choices=list(SAMPLERS), help="default: the checkpoint's")
    score.add_argument("--threshold", choices=get_args(ThresholdName), help="default: the checkpoint's")
    score.add_argument("--judge", type=Path, default=JUDGE_PATH)
    score.set_defaults(run=_score)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (CheckpointError, DatasetError, RecipeError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
