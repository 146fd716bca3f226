"""Decides how many threads compute.

A network on the CPU has threads of its own (`network_threads`). PyTorch's operations use OpenMP. A training gives one
thread of its process several OpenMP threads, and every other thread one; a service gives one to each.

GNU OpenMP counts the teams of all threads of a process. Once their members outnumber the cores, the teams no longer
spin between two parallel regions. Each region then costs a sleep and a wake-up, and a small step takes twice as long.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")

_mine = threading.local()


@cache
def network_threads() -> int:
    """Return the threads of a network on the CPU: as many as PyTorch's operations have at the first call."""
    return torch.get_num_threads()


def compute_alone() -> None:
    """Let the operations of the calling thread, and of threads that compute later, use one thread each."""
    network_threads()
    torch.set_num_threads(1)


def compute_with(threads: int | None = None) -> None:
    """Let the calling thread's operations use `threads` threads, and those of threads that start to compute later one.

    Only one thread of a process may ask for more than one. Threads that have computed before keep their number.

    threads: default: as many as the calling thread's operations use now.
    """
    threads = threads or torch.get_num_threads()
    if getattr(_mine, "threads", None) == threads:
        return
    _mine.threads = threads
    torch.get_num_threads()  # a thread's first call adopts the common number, so it must happen before the next line
    torch.set_num_threads(threads)
    if threads > 1:
        # The line above also set the common number, which other threads adopt when they first compute.
        _elsewhere(lambda: torch.set_num_threads(1))


@contextmanager
def computing_alone() -> Iterator[None]:
    """Let the calling thread's operations use one thread during the block, so that none spins beside a network's."""
    network_threads()
    mine = torch.get_num_threads()
    if mine == 1:
        yield
        return
    set_own_threads(1)
    try:
        yield
    finally:
        set_own_threads(mine)


@contextmanager
def computing_with_all() -> Iterator[None]:
    """Do as `compute_with` during the block. Threads that first compute after it have as many threads as before."""
    common, mine = _elsewhere(torch.get_num_threads), getattr(_mine, "threads", None)
    compute_with()
    try:
        yield
    finally:
        _mine.threads = mine
        _elsewhere(lambda: torch.set_num_threads(common))


def set_own_threads(threads: int) -> None:
    """Let the calling thread's operations use `threads` threads. Threads that first compute later do as before."""
    common = _elsewhere(torch.get_num_threads)
    torch.set_num_threads(threads)
    _elsewhere(lambda: torch.set_num_threads(common))


def _elsewhere(call: Callable[[], T]) -> T:
    """Return what a call returns on a new thread, which has the common number and leaves the caller's as it is."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()
