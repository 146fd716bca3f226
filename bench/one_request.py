"""Compares POST /generate on an idle service with the library's own loop: `python -m bench.one_request WEIGHTS`.

It starts the API without database and workers, and a second process that runs only the library's loop. The two draw the
same images in turns. The table has the seconds of each, and the ratio of every pair: the median, the lowest and the
highest.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import httpx

from bench.service import api
from bench.spread import with_spread

IMAGES = (1, 4, 16, 64)
STEPS = 10
ROUNDS = 9
GOAL_RATIO, THREADS_GOAL_RATIO = 1.15, 1.05
"""The first is for a request with all that the service does. The second is for the arrangement of its threads."""


def request(client: httpx.Client, images: int, seed: int) -> float:
    """Send a request; returns the seconds until its answer."""
    body = {"class": 0, "n": images, "seed": seed, "steps": STEPS, "format": "npz"}
    began = time.perf_counter()
    client.post("/generate", json=body).raise_for_status()
    return time.perf_counter() - began


class _Library:
    """A separate process that draws with the library alone."""

    def __init__(self, weights: Path) -> None:
        command = [sys.executable, "-m", "bench.one_request", str(weights), "--library"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def draw(self, images: int, seed: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(images, seed, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _draw_as_told(weights: Path) -> None:
    """Run the library's process: read lines with a number of images and a seed, and print the seconds for each."""
    from darkroom.model.checkpoint import load_checkpoint
    from darkroom.model.images.pixels import to_pixels
    from darkroom.model.machine.threads import compute_with
    from darkroom.model.sampling.draw import plan_row, sample

    compute_with()
    checkpoint = load_checkpoint(weights)
    denoiser = checkpoint.denoiser()
    settings = checkpoint.header.sampling.model_copy(update={"steps": STEPS})
    for line in sys.stdin:
        images, seed = map(int, line.split())
        began = time.perf_counter()
        to_pixels(sample(denoiser, [plan_row(denoiser, settings, label=0, seed=seed, index=i) for i in range(images)]))
        print(time.perf_counter() - began, flush=True)


def compare(client: httpx.Client, weights: Path, rounds: int) -> None:
    """Print the table. client: of the idle service."""
    library = _Library(weights)
    goals = f"goals: at most {GOAL_RATIO:g}, and {THREADS_GOAL_RATIO:g} by its threads"
    print(f"| images | POST /generate, s | library, s | ratio ({goals}) |")
    print("| ---: | ---: | ---: | ---: |")
    for images in IMAGES:
        request(client, images, 0)
        library.draw(images, 0)
        pairs = [(request(client, images, seed), library.draw(images, seed)) for seed in range(rounds)]
        service, bare = (with_spread(part, 3) for part in zip(*pairs, strict=True))
        ratio = with_spread([one / other for one, other in pairs], 2)
        print(f"| {images} | {service} | {bare} | {ratio} |", flush=True)
    library.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--library", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.library:
        _draw_as_told(arguments.weights)
        return
    with api(arguments.weights) as (client, _):
        compare(client, arguments.weights, arguments.rounds)


if __name__ == "__main__":
    main()
