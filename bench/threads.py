"""Measures how the service uses the cores, alone and beside a training: `python -m bench.threads WEIGHTS`.

The first table is that of `bench.one_request`. The second compares requests for one image in ten steps, one after the
other, and the training of the digits, each alone and both together. The training runs as a worker's does: with its
niceness, and with a thread for each core.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from bench.one_request import ROUNDS, compare, request
from bench.scheduling import quantile
from bench.service import api
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


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--repeats", type=int, default=ROUNDS, help="of each request in the first table")
    parser.add_argument("--rounds", type=int, default=3, help="of the second table")
    parser.add_argument("--lines", type=int, default=12, help="curve points of a training; the first is not measured")
    arguments = parser.parse_args()
    recipe = short_run(ROOT / "recipes" / "digits.yaml", arguments.lines)
    drawn: dict[str, list[float]] = {"alone": [], "beside": []}
    trained: dict[str, list[float]] = {"alone": [], "beside": []}
    with tempfile.TemporaryDirectory() as name, api(arguments.weights) as (client, _):
        folder = Path(name)
        compare(client, arguments.weights, arguments.repeats)
        for number in range(arguments.rounds):
            until = time.monotonic() + IDLE_SECONDS
            drawn["alone"] += draw_while(client, lambda until=until: time.monotonic() < until)
            trained["alone"] += from_the_command_line(recipe, folder / f"alone-{number}", folder / "datasets")[1:]
            times, speeds = beside(client, recipe, folder / f"beside-{number}", arguments.lines)
            drawn["beside"] += times
            trained["beside"] += speeds
    print("\n| what | alone | together | ratio | goal |\n| --- | ---: | ---: | ---: | --- |")
    for share, goal in ((0.5, "at most 2"), (0.9, "")):
        alone, together = (quantile(drawn[way], share) for way in ("alone", "beside"))
        print(f"| one image, p{100 * share:.0f}, s | {alone:.3f} | {together:.3f} | {together / alone:.2f} | {goal} |")
    alone, together = (statistics.median(trained[way]) for way in ("alone", "beside"))
    print(f"| training, images/s | {alone:.0f} | {together:.0f} | {together / alone:.2f} | at least 0.5 |")


if __name__ == "__main__":
    main()
