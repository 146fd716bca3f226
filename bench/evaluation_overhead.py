"""Measures the time of an evaluation outside the forward passes of the model and of the metrics' networks.

python -m bench.evaluation_overhead [CHECKPOINT] [--images N] [--steps N] [--split train|test]

The statistics of the data set are computed beforehand, as in every evaluation but the first. The time outside includes
sampler steps, noise, thresholds, rounding, scaling to the network's input, sums, distances, and loading the metrics'
weights.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.judge import CACHE_PATH, positive, with_split
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import EvaluationConfig
from darkroom.model.datasets import load_dataset
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.metrics import evaluation
from darkroom.model.metrics.efficientnet import EfficientNetLite0
from darkroom.model.metrics.references import FolderReferences

CHECKPOINT_PATH = Path("weights/fashion-mnist.safetensors")
SETS: tuple[tuple[Any, ...], ...] = (
    ("fid",),
    ("fid", "kid", "precision_recall", "confidence"),
    ("fid", "kid", "precision_recall", "confidence", "perceptual", "bits_per_dimension"),
)
LARGEST_SHARE = 0.05


@dataclass
class Clock:
    """Sums the seconds spent in calls of one network."""

    seconds: float = 0.0

    def timed(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Wrap a function, so that the time of its calls is added."""

        def call(*arguments: Tensor) -> Tensor:
            _wait()
            began = time.perf_counter()
            output = function(*arguments)
            _wait()
            self.seconds += time.perf_counter() - began
            return output

        return call


class TimedLayers:
    """Times the layers of EfficientNetLite0, called together or one by one."""

    def __init__(self, layers: Any, clock: Clock) -> None:
        self._layers, self._clock = layers, clock

    def __call__(self, x: Tensor) -> Tensor:
        return self._clock.timed(self._layers)(x)

    def __getitem__(self, number: int) -> Callable[..., Tensor]:
        return self._clock.timed(self._layers[number])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _extractor(clock: Clock) -> Callable[..., EfficientNetLite0]:
    def load(_: str, device: torch.device | None = None) -> EfficientNetLite0:
        extractor: Any = EfficientNetLite0(device)
        extractor._layers = TimedLayers(extractor._layers, clock)
        return extractor

    return load


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each set of metrics; exit status 1 when one spends more than LARGEST_SHARE outside."""
    parser = argparse.ArgumentParser(prog="python -m bench.evaluation_overhead")
    parser.add_argument("checkpoint", type=Path, nargs="?", default=CHECKPOINT_PATH)
    parser.add_argument("--images", type=positive, default=1000)
    parser.add_argument("--steps", type=positive, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--cache", type=Path, default=CACHE_PATH)
    arguments = parser.parse_args(argv)
    checkpoint = load_checkpoint(arguments.checkpoint)
    if checkpoint.header.recipe is None:
        parser.error(f"{arguments.checkpoint} does not name its data set")
    dataset = load_dataset(with_split(checkpoint.header.recipe.dataset, arguments.split), arguments.cache)
    references = FolderReferences(arguments.cache / "references")

    def measure(metrics: tuple[Any, ...], images: int) -> tuple[float, float, float]:
        model, extractor = Clock(), Clock()
        plain = checkpoint.denoiser()
        denoiser = Denoiser(plain.config, plain.class_names, model.timed(plain.network), plain.device)
        for name in ("load_extractor", "load_perceptual"):
            setattr(evaluation, name, _extractor(extractor))
        config = EvaluationConfig(
            every_images=1, metrics=metrics, images=images, steps=arguments.steps, guidance=arguments.guidance
        )
        began = time.perf_counter()
        evaluation.evaluate(denoiser, checkpoint.digest, dataset, config, checkpoint.header.sampling, references)
        return time.perf_counter() - began, model.seconds, extractor.seconds

    measure(SETS[-1], 64)  # keeps the data set's statistics, and warms up
    threads = torch.get_num_threads()
    print(f"{arguments.images:,} images, {arguments.steps} steps, guidance {arguments.guidance:g}; {threads} threads\n")
    print("| metrics | seconds | the model's passes | the metrics' passes | outside | share |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    shares = []
    for metrics in SETS:
        total, of_model, of_extractor = measure(metrics, arguments.images)
        outside = total - of_model - of_extractor
        shares.append(outside / total)
        print(
            f"| {', '.join(metrics)} | {total:.1f} | {of_model:.1f} | {of_extractor:.1f} | {outside:.2f} | "
            f"{shares[-1]:.1%} |",
            flush=True,
        )
    return int(max(shares) > LARGEST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
