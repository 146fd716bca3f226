"""Measures how the service uses the cores, alone and beside a training: `python -m bench.threads WEIGHTS`.

The first table is that of `bench.one_request`. The second compares requests for one image in ten steps, one after the
other, and the training of the digits, each alone and both together. A cell has the median of the rounds, the lowest and
the highest. The training runs as a worker's does: with its niceness, and with a thread for each core.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from bench.one_request import ROUNDS, compare, request
from bench.scheduling import quantile
from bench.service import api
from bench.spread import with_spread
from bench.worker_speed import ROOT, from_the_command_line, short_run
from darkroom.model.config import Recipe

IDLE_SECONDS = 10.0


def draw_while(client: httpx.Client, wanted: Callable[[], bool]) -> list[float]:
    """Send requests for one image, one after the other, while `wanted` says so; returns the seconds of each."""
    found: list[float] = []
    while wanted():
        found.append(request(client, 1, len(found)))
    return found


def beside(client: httpx.Client, recipe: Recipe, folder: Path, lines: int) -> tuple[list[float], list[float]]:
    """Train and draw together; returns the seconds of the requests, and the images per second of each curve point.

    Only requests between the first curve point and the last are measured.
    """
    curve = folder / "run" / "losses.csv"

    def points() -> int:
        return len(curve.read_text().splitlines()) - 1 if curve.exists() else 0

    with ThreadPoolExecutor(1) as executor:
        training = executor.submit(from_the_command_line, recipe, folder, folder.parent / "datasets")
        while points() < 1 and not training.done():
            time.sleep(0.1)
        times = draw_while(client, lambda: points() < lines and not training.done())
        return times, training.result()[1:]


def line(what: str, by_round: Mapping[str, Sequence[float]], digits: int, goal: str) -> str:
    """Return a line of the second table. by_round: one figure of each round, alone and together."""
    alone, together = by_round["alone"], by_round["together"]
    ratios = [one / other for one, other in zip(together, alone, strict=True)]
    cells = [with_spread(alone, digits), with_spread(together, digits), with_spread(ratios, 2)]
    return f"| {what} | {' | '.join(cells)} | {goal} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--repeats", type=int, default=ROUNDS, help="of each request in the first table")
    parser.add_argument("--rounds", type=int, default=3, help="of the second table")
    parser.add_argument("--lines", type=int, default=12, help="curve points of a training; the first is not measured")
    arguments = parser.parse_args()
    recipe = short_run(ROOT / "recipes" / "digits.yaml", arguments.lines)
    drawn: dict[str, list[list[float]]] = {"alone": [], "together": []}
    trained: dict[str, list[list[float]]] = {"alone": [], "together": []}
    with tempfile.TemporaryDirectory() as name, api(arguments.weights) as (client, _):
        folder = Path(name)
        compare(client, arguments.weights, arguments.repeats)
        for number in range(arguments.rounds):
            until = time.monotonic() + IDLE_SECONDS
            drawn["alone"].append(draw_while(client, lambda until=until: time.monotonic() < until))
            trained["alone"].append(from_the_command_line(recipe, folder / f"alone-{number}", folder / "datasets")[1:])
            times, speeds = beside(client, recipe, folder / f"beside-{number}", arguments.lines)
            drawn["together"].append(times)
            trained["together"].append(speeds)
    print("\n| what | alone | together | ratio | goal |\n| --- | ---: | ---: | ---: | --- |")
    for share, goal in ((0.5, "at most 2"), (0.9, "")):
        by_round = {way: [quantile(times, share) for times in found] for way, found in drawn.items()}
        print(line(f"one image, p{100 * share:.0f}, s", by_round, 3, goal))
    print(
        line(
            "training, images/s",
            {way: list(map(statistics.median, of)) for way, of in trained.items()},
            0,
            "at least 0.5",
        )
    )


if __name__ == "__main__":
    main()
