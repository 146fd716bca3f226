"""How many jobs begin late when an idle worker has to be woken for each: `python -m bench.late_jobs`.

Jobs are submitted one after another, each when the one before has ended, and the worker learns of them by hints alone:
its own look, every ten seconds, is switched off. A job is late when its hint did not lead to a claim, so that it would
have to wait for that look; here it is given ten seconds. The work itself does nothing.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.system.hinted import Hinted, hinted

LATE_SECONDS = 10.0


def late_jobs(parts: Hinted, jobs: int) -> tuple[int, list[float]]:
    """(how many are late, seconds from each submission to its claim)."""
    late, waits = 0, []
    for _ in range(jobs):
        job_id = parts.submit()
        end = time.monotonic() + LATE_SECONDS
        while not parts.ended(job_id):
            if time.monotonic() > end:
                late += 1
                parts.sender.soon()
                end += LATE_SECONDS
            time.sleep(0.001)
        waits.append(parts.waited_seconds(job_id))
    return late, waits


def main() -> None:
    """Print a line a delay."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=1000)
    arguments.add_argument("--delays", type=float, nargs="*", default=[0.0, 0.002], help="seconds a round trip")
    chosen = arguments.parse_args()
    print("| added to a round trip | jobs | late | median wait | longest wait |\n| ---: | ---: | ---: | ---: | ---: |")
    for delay in chosen.delays:
        with tempfile.TemporaryDirectory() as folder, hinted(Path(folder), delay) as parts:
            late, waits = late_jobs(parts, chosen.jobs)
        figures = f"{1000 * statistics.median(waits):.0f} ms | {1000 * max(waits):.0f} ms"
        print(f"| {1000 * delay:g} ms | {chosen.jobs} | {late} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
