"""Compares Darkroom with other servers of models: `python -m bench.serving WEIGHTS --environment DIR`.

The servers run in turns, once in each round, and get the same requests at the same times. Each round begins with the
next server. After the first round, each goes on in the arrangement that suits it best. A measurement that the results
already have is not repeated, so an interrupted run continues where it stopped. Measurements of another machine, code,
weights file or length of a load stay in the results and are not used. At the end it writes a page with tables and a
picture.
"""

import argparse
import base64
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from bench.serving.contenders import CORES, DARKROOM, PEERS, ROOT, Contender, contenders, make_environment
from bench.serving.drawing import Model, Row
from bench.serving.load import send_load
from bench.serving.report import CONDITIONS, MEASUREMENTS, PAGE, row_steps_per_second, server_of, write_page
from darkroom.model.digest import digest_of

ALONE_IMAGES, ALONE_STEPS, ALONE_REPEATS = (1, 4, 16, 32), 10, 3
WARM_UP_REQUESTS = 24
"""BentoML needs 14 to measure its own speed."""
PRODUCT = ("app", "darkroom", "model", "store", "telemetry", "constraints.txt")
BENCH = ("bench/serving", "bench/scheduling.py")
"""Paths of what is measured, and of what measures."""
Json = dict[str, Any]


def machine() -> str:
    """Return the processor's name and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {CORES} cores"


def draw(client: httpx.Client, contender: Contender, images: int, seed: int) -> tuple[float, httpx.Response]:
    """Send a request to an idle server; returns its seconds and its answer. Raises HTTPStatusError."""
    began = time.perf_counter()
    answer = client.post("/generate", json=contender.body(images, ALONE_STEPS, seed)).raise_for_status()
    return time.perf_counter() - began, answer


def difference(weights: Path, client: httpx.Client, contender: Contender) -> int:
    """Return by how much the pixels of the same images differ between a server and the library. It must be 0."""
    rows = [Row(label=7, seed=7, index=index, steps=ALONE_STEPS) for index in range(8)]
    found, expected = contender.images(draw(client, contender, 8, 7)[1]), Model(weights).draw(rows)
    return int(np.abs(_pixels(found) - _pixels(expected)).max())


def _pixels(pictures: Sequence[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(BytesIO(base64.b64decode(one))), dtype=int) for one in pictures])


def code() -> str:
    """Return the last commit that changed what is measured, and a plus sign if there are changes after it."""
    git = ["git", "-C", str(ROOT)]
    paths = ["--", *PRODUCT, *BENCH]
    commit = subprocess.check_output([*git, "log", "-1", "--format=%h", *paths], text=True).strip()
    return commit + "+" * bool(subprocess.check_output([*git, "status", "--porcelain", *paths]).strip())


class Results:
    """The measurements of some conditions, in a file with one JSON object a line; the file may have others.

    conditions: what can change a measurement. A measurement is named by all its fields but the measured.
    """

    MEASURED = ("answered", "seconds", "alone")

    def __init__(self, path: Path, conditions: Json) -> None:
        self.path, self._conditions = path, conditions
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.records: list[Json] = [one for one in map(json.loads, lines) if conditions.items() <= one.items()]

    def has(self, name: Json) -> bool:
        """Return True if the measurement is there."""
        wanted = self._conditions | name
        return any({k: v for k, v in one.items() if k not in self.MEASURED} == wanted for one in self.records)

    def add(self, name: Json, measured: Json) -> Json:
        """Append a measurement; returns its record."""
        record = self._conditions | name | measured
        self.records.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        return record


def measure(contender: Contender, number: int, arguments: argparse.Namespace, results: Results) -> None:
    """Make the measurements of a contender in a round that are not there yet."""
    name = {"contender": contender.name, "round": number}
    names_alone = [name | {"images": images, "steps": ALONE_STEPS} for images in ALONE_IMAGES]
    names_load = [name | {"rate": rate} for rate in arguments.rates]
    if all(map(results.has, [*names_alone, *names_load])):
        return
    log = arguments.environment / f"{contender.name.replace(', ', '-').replace(' ', '-')}.log"
    with contender.serving(arguments.weights, arguments.environment, log) as client:
        send_load(client, contender, WARM_UP_REQUESTS / 3.0, 3.0, number)
        if other := difference(arguments.weights, client, contender):
            raise SystemExit(f"{contender.name} draws other images than the library: a pixel differs by {other}")
        for one in names_alone:
            if not results.has(one):
                times = [draw(client, contender, one["images"], j)[0] for j in range(ALONE_REPEATS)]
                results.add(one, {"alone": times})
        for one in names_load:
            if results.has(one):
                continue
            load = send_load(client, contender, one["rate"], arguments.seconds, number)
            record = results.add(one, {"answered": load.answered, "seconds": load.seconds})
            told = f"round {number}, {contender.name}, {one['rate']:g} requests/s in {load.seconds:.0f} s"
            print(f"{told}: {row_steps_per_second(record):.0f} row-steps/s", file=sys.stderr, flush=True)


def suited(records: Sequence[Json], highest: float) -> set[str]:
    """Return the name of each server in the arrangement that drew most in the first round at the highest rate."""
    best: dict[str, tuple[float, str]] = {}
    for record in records:
        if record.get("rate") == highest and record["round"] == 0:
            name = record["contender"]
            server = server_of(name)
            best[server] = max(best.get(server, (0.0, "")), (row_steps_per_second(record), name))
    return {name for _, name in best.values()}


def in_turn(running: Sequence[Contender], number: int) -> Sequence[Contender]:
    """Return the order of a round: each round begins with the next contender."""
    first = number % len(running)
    return [*running[first:], *running[:first]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=(__doc__ or "").split(":")[0] + ".")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.5, 2.8, 4.0], help="requests a second")
    parser.add_argument("--seconds", type=float, default=75.0, help="length of a load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", nargs="+", choices=[DARKROOM, *PEERS], default=[DARKROOM, *PEERS])
    parser.add_argument("--environment", type=Path, required=True, help="of the peers, with all logs; made if missing")
    parser.add_argument("--out", type=Path, default=MEASUREMENTS.parent, help="folder of the measurements")
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args(argv)
    make_environment(arguments.environment)
    conditions = (machine(), code(), digest_of(arguments.weights.read_bytes()), f"{arguments.seconds:g} s")
    results = Results(arguments.out / MEASUREMENTS.name, dict(zip(CONDITIONS, conditions, strict=True)))
    running = [one for one in contenders() if one.server in arguments.servers]
    for number in range(arguments.rounds):
        for contender in in_turn(running, number):
            measure(contender, number, arguments, results)
        if number == 0:
            going_on = suited(results.records, max(arguments.rates))
            running = [one for one in running if one.name in going_on]
    write_page(results.records, results.path, arguments.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
