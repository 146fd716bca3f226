"""Simulates the scheduling policy of the engine on a measured speed curve, against a queue that serves in turn.

python -m bench.scheduling [--rates R ...] [--seconds S] [--seeds N]

The load is open-loop: 70% requests of 1 image in 10 steps, 25% of 4 in 20, 5% of 32 in 50, each step guided. The peer
serves batches of 16 images from start to end, in the order of arrival. It prints seconds.
"""

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from darkroom.app.engine.drawer import Drawer
from darkroom.app.engine.forecast import Work, foresee
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.phases import Phase
from darkroom.app.engine.queue import Queue
from darkroom.app.engine.request import Finished, Timings
from darkroom.app.engine.residents import Resident
from darkroom.app.engine.rows import Request, Row
from darkroom.app.engine.speed import SpeedCurve

MEASURED = {2: 0.0042, 4: 0.0058, 8: 0.0088, 16: 0.0149, 32: 0.0275, 64: 0.0529, 128: 0.1049}
"""Seconds of a step by network rows: the shipped model on two cores."""
MIX = (("small", 1, 10, 0.70), ("middle", 4, 20, 0.25), ("large", 32, 50, 0.05))
"""Kinds of requests: name, images, steps, share."""
SIZES = {kind: (images, steps) for kind, images, steps, _ in MIX}
PEER_IMAGES = 16


@dataclass(eq=False)
class Steps:
    """The phase of a simulated row: steps of two network rows each."""

    steps_left: int
    network_rows: int = 2

    @property
    def network_rows_left(self) -> int:
        """Network rows until the row is finished."""
        return self.network_rows * self.steps_left


Pick = Callable[[float], Sequence[Row]]


class Simulation:
    """The engine's queue, with steps that take exactly the time of the speed curve.

    ended: when each request ended. pick: returns the rows of the next step; default: the queue's.
    """

    def __init__(self, resident: Resident, limit: int = sys.maxsize, pick: Pick | None = None) -> None:
        self.resident = resident
        self.queue = Queue(limit, EngineObserver())
        self.now = 0.0
        self.ended: dict[Request, float] = {}
        self._pick = pick or self.queue.pick

    def submit(
        self,
        images: int,
        steps: int,
        deadline: float | None = None,
        owner: int | None = None,
        *,
        resident: Resident | None = None,
        admitted: bool = True,
    ) -> Request:
        """Accept a request now; raises what the queue raises. deadline: in seconds from now.

        admitted: False accepts it in any case.
        """
        resident = resident or self.resident
        phases = [cast(Phase, Steps(steps)) for _ in range(images)]
        work = Work.of_phases(phases)
        if admitted:
            forecast = self.queue.admit(self.now, resident, work, deadline, owner)
        else:
            forecast = foresee(self.now, resident, work, deadline)
        request = Request(resident, lambda event: None, forecast, work, phases, owner)
        self.queue.add(request)
        return request

    def run(self, until: float = math.inf) -> None:
        """Make steps until the time comes, or nothing is left."""
        while self.queue.requests and self.now < until:
            self.step()
        if until < math.inf:
            self.now = max(self.now, until)

    def step(self) -> Sequence[Row]:
        """Make one step; returns its rows."""
        rows = self._pick(self.now)
        self.queue.begin(rows, self.now)
        self.now += rows[0].request.speed.seconds(sum(row.network_rows for row in rows))
        for row in rows:
            cast(Steps, row.phase).steps_left -= 1
        self.queue.advanced(rows, [row.network_rows for row in rows])
        for row in rows:
            if not row.steps_left:
                self.queue.finished(row)
        for request in {row.request for row in rows}:
            if not request.unfinished:
                self.ended[request] = self.now
                self.queue.end(request, Finished(Timings(0.0, 0.0)))
        return rows


class InTurn(Simulation):
    """A server that draws up to 16 images of the oldest requests to their end, and then the next."""

    def __init__(self, resident: Resident) -> None:
        super().__init__(resident, pick=self._whole_batch)
        self._batch: list[Row] = []

    def _whole_batch(self, now: float) -> Sequence[Row]:
        self._batch = [row for row in self._batch if row.steps_left]
        if not self._batch:
            self._batch = [row for request in self.queue.requests for row in request.unfinished][:PEER_IMAGES]
        return self._batch


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[tuple[float, str]]:
    """Yield the arrivals of a Poisson process of `rate` requests a second: the time, and the kind of request."""
    generator, arrival = random.Random(seed), 0.0
    while (arrival := arrival + generator.expovariate(rate)) < seconds:
        kind, *_ = generator.choices(MIX, [share for *_, share in MIX])[0]
        yield arrival, kind


def durations(simulation: Simulation, rate: float, seconds: float, seed: int) -> dict[str, list[float]]:
    """Serve a Poisson process of `rate` requests a second; returns the seconds of the requests of each kind."""
    sent: dict[Request, tuple[str, float]] = {}
    for arrival, kind in arrivals(rate, seconds, seed):
        simulation.run(arrival)
        sent[simulation.submit(*SIZES[kind])] = (kind, arrival)
    simulation.run()
    found: dict[str, list[float]] = {kind: [] for kind, *_ in MIX}
    for request, (kind, arrival) in sent.items():
        found[kind].append(simulation.ended[request] - arrival)
    return found


def measured() -> Resident:
    """Return the model whose speed was measured."""
    speed = SpeedCurve(MEASURED)
    return Resident("model", cast(Drawer, None), speed, speed.knee())


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scheduling", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[1.5, 2.8, 4.0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args(argv)
    print("| rate | policy | small p50 / p99 | middle p50 / p99 | large p50 / p99 |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for rate in arguments.rates:
        for name, kind_of_server in (("Darkroom", Simulation), ("in turn, 16 images", InTurn)):
            found: dict[str, list[float]] = {kind: [] for kind, *_ in MIX}
            for seed in range(arguments.seeds):
                for kind, times in durations(kind_of_server(measured()), rate, arguments.seconds, seed).items():
                    found[kind] += times
            cells = [f"{statistics.median(times):.2f} / {quantile(times, 0.99):.2f}" for times in found.values()]
            print(f"| {rate:g} | {name} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
