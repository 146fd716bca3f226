"""Shares the cores among processes, with the standard library alone."""

import os
import sys

OPENMP, INDUCTOR = "OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"
"""Threads of PyTorch's operations, and processes that compile. Each is all of the cores by default."""


def share_of_cores(processes: int) -> dict[str, str]:
    """Return the variables that give each of so many processes its share of the cores; without those that are set."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return {name: str(max(1, cores // processes)) for name in (OPENMP, INDUCTOR) if name not in os.environ}
