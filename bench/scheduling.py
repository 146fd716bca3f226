"""Simulates the scheduling policy of the engine on a measured speed curve, against a queue that serves in turn.

python -m bench.scheduling [--rates R ...] [--seconds S] [--seeds N]

The load is open-loop: 70% requests of 1 image in 10 steps, 25% of 4 in 20, 5% of 32 in 50, each step guided. The peer
serves batches of 16 images from start to end, in the order of arrival. It prints seconds.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from darkroom.app.engine.policy import Policy
from darkroom.app.engine.speed import SpeedCurve

MEASURED = {2: 0.0111, 4: 0.0132, 8: 0.0175, 16: 0.0257, 32: 0.0428, 64: 0.0856, 128: 0.162}
"""Seconds of a step by network rows: the shipped model on two cores."""
MIX = (("small", 1, 10, 0.70), ("middle", 4, 20, 0.25), ("large", 32, 50, 0.05))
"""Kinds of requests: name, images, steps, share."""
PEER_IMAGES = 16


@dataclass(eq=False)
class Row:
    """An image of a simulated request."""

    request: "Request"
    steps_left: int
    network_rows: int = 2
    lane: str = "model"


@dataclass(eq=False)
class Request:
    """A simulated request. arrived, deadline, ended: seconds."""

    kind: str
    arrived: float
    images: int
    steps: int
    speed: SpeedCurve
    batch_limit: int
    deadline: float | None = None
    owner: int | None = None
    unfinished: list[Row] = field(default_factory=list)
    ended: float | None = None

    def __post_init__(self) -> None:
        self.unfinished = [Row(self, self.steps) for _ in range(self.images)]
        self._per_row = self.speed.seconds(self.batch_limit) / self.batch_limit
        self.count()

    def count(self) -> None:
        """Drop finished rows and count the work that is left."""
        self.unfinished = [row for row in self.unfinished if row.steps_left]
        self.steps_left = max((row.steps_left for row in self.unfinished), default=0)
        self.seconds_left = self._per_row * sum(row.steps_left * row.network_rows for row in self.unfinished)


Pick = Callable[[Sequence[Request], float], Sequence[Row]]


def arrivals(rate: float, seconds: float, seed: int, speed: SpeedCurve, limit: int) -> list[Request]:
    """Return the requests of a Poisson process of `rate` a second."""
    generator, now, found = random.Random(seed), 0.0, list[Request]()
    while (now := now + generator.expovariate(rate)) < seconds:
        kind, images, steps, _ = generator.choices(MIX, [share for *_, share in MIX])[0]
        found.append(Request(kind, now, images, steps, speed, limit))
    return found


def simulate(requests: Sequence[Request], pick: Pick) -> None:
    """Serve the requests, given in the order of arrival, until all have ended."""
    now, arrived, waiting = 0.0, 0, list[Request]()
    while waiting or arrived < len(requests):
        if not waiting:
            now = max(now, requests[arrived].arrived)
        while arrived < len(requests) and requests[arrived].arrived <= now:
            waiting.append(requests[arrived])
            arrived += 1
        rows = pick(waiting, now)
        now += rows[0].request.speed.seconds(sum(row.network_rows for row in rows))
        for row in rows:
            row.steps_left -= 1
        for request in {row.request for row in rows}:
            request.count()
            if not request.unfinished:
                request.ended = now
                waiting.remove(request)


def peer() -> Pick:
    """Return the pick of a server that draws up to 16 images of the oldest requests to their end, then the next."""
    batch: list[Row] = []

    def pick(waiting: Sequence[Request], now: float) -> Sequence[Row]:
        batch[:] = [row for row in batch if row.steps_left]
        if not batch:
            batch.extend([row for request in waiting for row in request.unfinished][:PEER_IMAGES])
        return batch

    return pick


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scheduling", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[1.5, 2.8, 3.2])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args(argv)
    print("| rate | policy | small p50 / p99 | middle p50 / p99 | large p50 / p99 |")
    print("| ---: | --- | ---: | ---: | ---: |")
    speed = SpeedCurve(MEASURED)
    makers: dict[str, Callable[[], Pick]] = {"Darkroom": lambda: Policy[Row]().pick, "in turn, 16 images": peer}
    for rate in arguments.rates:
        for name, make in makers.items():
            found: list[Request] = []
            for seed in range(arguments.seeds):
                requests = arrivals(rate, arguments.seconds, seed, speed, speed.knee())
                simulate(requests, make())
                found += requests
            cells = []
            for kind, *_ in MIX:
                times = [one.ended - one.arrived for one in found if one.kind == kind and one.ended is not None]
                cells.append(f"{statistics.median(times):.2f} / {quantile(times, 0.99):.2f}")
            print(f"| {rate:g} | {name} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
