"""Counts the jobs that an idle worker starts late: `python -m bench.late_jobs`.

The benchmark submits each job when the one before has ended. The jobs themselves do nothing. The worker learns of jobs
by hints alone: its own look for jobs, every ten seconds, is switched off. A job is late when its hint has led to no
claim after ten seconds.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.system.hinted import Hinted, hinted

LATE_SECONDS = 10.0


def late_jobs(parts: Hinted, jobs: int) -> tuple[int, list[float]]:
    """Return the number of late jobs, and the seconds from each submission to its claim."""
    late, waits = 0, []
    for _ in range(jobs):
        job_id = parts.submit()
        end = time.monotonic() + LATE_SECONDS
        while not parts.ended(job_id):
            if time.monotonic() > end:
                late += 1
                parts.sender.send_soon()
                end += LATE_SECONDS
            time.sleep(0.001)
        waits.append(parts.waited_seconds(job_id))
    return late, waits


def main() -> None:
    """Print one line for each delay."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=1000)
    arguments.add_argument("--delays", type=float, nargs="*", default=[0.0, 0.002], help="seconds per round trip")
    chosen = arguments.parse_args()
    print("| added to a round trip | jobs | late | median wait | longest wait |\n| ---: | ---: | ---: | ---: | ---: |")
    for delay in chosen.delays:
        with tempfile.TemporaryDirectory() as folder, hinted(Path(folder), delay) as parts:
            late, waits = late_jobs(parts, chosen.jobs)
        figures = f"{1000 * statistics.median(waits):.0f} ms | {1000 * max(waits):.0f} ms"
        print(f"| {1000 * delay:g} ms | {chosen.jobs} | {late} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
