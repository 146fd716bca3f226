"""Takes every step from every state of the job protocol in PostgreSQL: `python -m tests.protocol.soak` (`make soak`).

It prints how much it has done, and ends with an error at the first difference from the model. `--share 2/8` takes every
eighth trace, beginning with the second.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.migrations import upgrade
from tests.fixtures.postgres import trust_the_machine
from tests.protocol.driver import Driver
from tests.protocol.model import State, explore, kind_of
from tests.protocol.traces import Label, all_steps, label

TOLD_SECONDS = 60.0


def main() -> None:
    """Explore the model, then drive the traces."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--share", default="1/1", metavar="PART/PARTS")
    chosen = arguments.parse_args()
    part, parts = map(int, chosen.share.split("/"))
    edges = explore()
    print(f"model: {len(edges):,} states, {sum(map(len, edges.values())):,} steps, every law kept", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        server = PrivatePostgres(Path(folder))
        try:
            server.start()
            trust_the_machine(server)
            upgrade(server.url)
            drive(Driver(server.url), chosen.seed, part, parts)
        finally:
            server.stop()


def drive(driver: Driver, seed: int, part: int, parts: int) -> None:
    """Follow the traces, and print now and then how far it is."""
    told, traces, different = time.monotonic(), 0, set[tuple[State, Label, State]]()

    def figures() -> str:
        return f"PostgreSQL: {traces:,} traces, {driver.steps:,} steps, {len(different):,} of them different"

    for trace in islice(all_steps(seed), part - 1, None, parts):
        faults = driver.follow(trace)
        assert not faults, (faults, [step for step, _ in trace])
        traces += 1
        before = State()
        for step, after in trace:
            different.add((kind_of(before), label(before, step, after), kind_of(after)))
            before = after
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            print(figures(), flush=True)
    print(f"{figures()}; no difference from the model, and no fault in the events", flush=True)
    driver.close()


if __name__ == "__main__":
    main()
