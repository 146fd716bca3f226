"""Lets trainings and evaluations on the CPU leave cores to the processes beside them.

OpenMP's threads wait for each other many times in a step. When another process has the core of one, the others wait
for that one each time, and spin. A training of two threads then keeps a twentieth of its speed. In one thread it keeps
two thirds.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from darkroom.model.machine.determinism import computes_deterministically
from darkroom.model.machine.threads import set_own_threads

LOOK_SECONDS = 1.0
LITTLE = 0.1
"""Cores that other processes may use without taking one from this one."""

_mine = threading.local()

STAT = Path("/proc/stat")
BUSY = (0, 1, 2, 5, 6)
"""Numbers of fields of the first line of STAT: user, nice, system, irq and softirq."""


def machine_seconds() -> float | None:
    """Return the processor time of all processes since the machine started; None where Linux does not tell it."""
    try:
        _, *fields = STAT.read_text().split("\n", 1)[0].split()
        return sum(int(fields[field]) for field in BUSY) / float(os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return None


class SharedCores:
    """Follows the use of the cores, and changes how many threads the calling thread's operations use.

    most: as many as now. Their number changes the last bits of a gradient, so it stays with DARKROOM_DETERMINISTIC.

    cores: of the machine; machine, own: processor time of all processes, and of this one.
    """

    def __init__(
        self,
        cores: int = os.cpu_count() or 1,
        machine: Callable[[], float | None] = machine_seconds,
        own: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cores, self._machine, self._own, self._clock = cores, machine, own, clock
        self.most = torch.get_num_threads()
        self._stays = self.most == 1 or computes_deterministically()
        self._seen = self._look()

    def follow(self) -> None:
        """Once in LOOK_SECONDS, leave the cores that other processes used since the last look."""
        if self._stays or self._clock() < self._seen[0] + LOOK_SECONDS:
            return
        (before, others_before), (now, others) = self._seen, self._look()
        self._seen = now, others
        used = (others - others_before) / (now - before)
        threads = min(self.most, max(1, math.floor(self._cores - used + LITTLE)))
        if threads != torch.get_num_threads():
            set_own_threads(threads)

    def _look(self) -> tuple[float, float]:
        """Return the time, and the processor time of the other processes."""
        machine = self._machine()
        return self._clock(), 0.0 if machine is None else machine - self._own()


@contextmanager
def sharing_cores() -> Iterator[None]:
    """Let `leave_cores` follow the use of the cores during the block; afterwards the calling thread has all of its own.

    A block inside another one changes nothing.
    """
    if hasattr(_mine, "cores"):
        yield
        return
    _mine.cores = SharedCores()
    try:
        yield
    finally:
        set_own_threads(_mine.cores.most)
        del _mine.cores


def leave_cores() -> None:
    """Leave the cores that other processes use, inside a block of `sharing_cores`: call this between two steps."""
    if hasattr(_mine, "cores"):
        _mine.cores.follow()
