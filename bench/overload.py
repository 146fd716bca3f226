"""Measures the service at ten times its capacity: `python -m bench.overload WEIGHTS`.

The load is that of `bench.serving`. The first part finds the capacity: the steps of images a second of a burst, divided
by those of a mean request. The second has nine tenths of it, and the third ten times as much. It prints the latencies
of admitted requests in both, and how well Retry-After tells when a request of the same kind was admitted next. It also
prints the time of /healthz beside the load, and the memory and descriptors of the service before and after.
"""

import argparse
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.scheduling import MIX, SIZES, arrivals, quantile
from bench.service import api, probing
from bench.serving.contenders import CORES, DARKROOM, Contender
from bench.serving.load import Answered, Load, send_load
from bench.serving.report import row_steps_per_second

BURST_REQUESTS, BURST_SECONDS = 60, 0.01
CALM_SHARE, OVERLOAD = 0.9, 10.0
PROBE_LIMIT_SECONDS = 0.1
RIGHT_FACTOR = 2.0
SETTLE_SECONDS = 5.0
SERVICE = Contender(DARKROOM, 1, CORES)


def held(pid: int) -> tuple[float, int]:
    """Return the resident megabytes and the open descriptors of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1000, len(os.listdir(f"/proc/{pid}/fd"))


def right(told: float, refused: float, later: Iterable[tuple[float, bool]]) -> bool | None:
    """Return whether Retry-After was right within RIGHT_FACTOR, or None where the load ended too early to know.

    told: Retry-After in seconds, of a request that was refused at `refused`. later: the times of later requests of its
    kind, and whether each was admitted. The place became free between the last refused one and the admitted one. The
    header has whole seconds and at least one, so one second is right for any shorter time.
    """
    for sent, admitted in later:
        if admitted:
            return told <= 1.0 or sent - refused >= told / RIGHT_FACTOR
        if sent - refused > told * RIGHT_FACTOR:
            return False
    return None


def retry_table(planned: Sequence[tuple[float, str]], answered: Sequence[Answered]) -> str:
    """Return how many refusals had a Retry-After, and how many of these were right, by kind and status.

    Not known: neither was a later request of the kind admitted, nor did the load last twice as long as Retry-After.
    """
    lines = ["| kind | status | refusals | with Retry-After | seconds: p50 / max | right within 2 | not known |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    sent = [(at, kind, status, told) for (at, kind), (_, status, _, told) in zip(planned, answered, strict=True)]
    for kind in SIZES:
        mine = [(at, status, told) for at, one, status, told in sent if one == kind]
        for status in sorted({status for _, status, _ in mine} - {200}):
            refused = [(n, at, told) for n, (at, one, told) in enumerate(mine) if one == status]
            waits = [told for _, _, told in refused if told is not None]
            judged = [
                right(told, at, ((later, one == 200) for later, one, _ in mine[n + 1 :]))
                for n, at, told in refused
                if told is not None
            ]
            known = [one for one in judged if one is not None]
            seconds = f"{statistics.median(waits):.0f} / {max(waits):.0f}" if waits else ""
            counts = f"{len(refused)} | {len(waits)} | {seconds} | {sum(known)} of {len(known)}"
            counts += f" | {len(judged) - len(known)}"
            lines.append(f"| {kind} | {status} | {counts} |")
    return "\n".join(lines)


def latency_table(loads: dict[str, Load]) -> str:
    """Return the latencies of admitted requests, and how many requests were not admitted."""
    lines = ["| load | kind | admitted | never admitted | p50, s | p99, s | max, s |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name, load in loads.items():
        for kind in SIZES:
            seconds = [one for found, status, one, _ in load.answered if (found, status) == (kind, 200)]
            of_all = sum(found == kind for found, *_ in load.answered)
            cells = " | ".join(f"{quantile(seconds, share):.2f}" for share in (0.5, 0.99, 1.0))
            lines.append(f"| {name} | {kind} | {len(seconds)} of {of_all} | {of_all - len(seconds)} | {cells} |")
    return "\n".join(lines)


def requests_per_second(burst: Load) -> float:
    """Return the speed of a burst in mean requests a second. The kinds have other shares in the burst."""
    drawn = row_steps_per_second({"answered": burst.answered, "seconds": burst.seconds})
    return drawn / sum(images * steps * share for _, images, steps, share in MIX)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the overload")
    parser.add_argument("--calm-seconds", type=float, default=75.0, help="length of the load below capacity")
    arguments = parser.parse_args()
    with api(arguments.weights) as (client, process):
        burst = send_load(client, SERVICE, BURST_REQUESTS / BURST_SECONDS, BURST_SECONDS, 0)
        capacity = requests_per_second(burst)
        print(f"capacity: {capacity:.2f} requests/s", flush=True)
        calm = send_load(client, SERVICE, CALM_SHARE * capacity, arguments.calm_seconds, 1)
        before = held(process.pid)
        rate, seconds = OVERLOAD * capacity, 60.0 * arguments.minutes
        with probing(str(client.base_url)) as probes:
            overload = send_load(client, SERVICE, rate, seconds, 2)
        time.sleep(SETTLE_SECONDS)
        after = held(process.pid)
    loads = {f"{CALM_SHARE:g} of capacity": calm, f"{OVERLOAD:g} times capacity": overload}
    print(f"\n{latency_table(loads)}\n\n{retry_table(list(arrivals(rate, seconds, 2)), overload.answered)}\n")
    print(f"statuses: {dict(Counter(status for _, status, *_ in overload.answered))} (0 is no answer)")
    p50, p99 = (1e3 * quantile(probes, share) for share in (0.5, 0.99))
    limit = f"limit {1e3 * PROBE_LIMIT_SECONDS:.0f}"
    failed = f"{sum(map(math.isinf, probes))} of {len(probes)} failed"
    print(f"/healthz, ms: p50 {p50:.1f}, p99 {p99:.1f} ({limit}), max {1e3 * max(probes):.1f}; {failed}")
    for name, was, now in zip(("resident MB", "descriptors"), before, after, strict=True):
        print(f"{name}: {was:.0f} before, {now:.0f} after")


if __name__ == "__main__":
    main()
