"""Decides how many threads compute.

A network on the CPU has threads of its own (`network_threads`). PyTorch's operations use OpenMP. A training gives one
thread of its process several OpenMP threads, and every other thread one; a service gives one to each.

GNU OpenMP counts the teams of all threads of a process. Once their members outnumber the cores, the teams no longer
spin between two parallel regions. Each region then costs a sleep and a wake-up, and a small step takes twice as long.
"""

import threading
from functools import cache

import torch

_mine = threading.local()


@cache
def network_threads() -> int:
    """Return the threads of a network on the CPU: as many as PyTorch's operations have at the first call."""
    return torch.get_num_threads()


def compute_alone() -> None:
    """Let the operations of the calling thread, and of threads that compute later, use one thread each."""
    network_threads()
    torch.set_num_threads(1)


def compute_with(threads: int) -> None:
    """Let the calling thread's operations use `threads` threads, and those of threads that start to compute later one.

    Only one thread of a process may ask for more than one. Threads that have computed before keep their number.
    """
    if getattr(_mine, "threads", None) == threads:
        return
    _mine.threads = threads
    torch.get_num_threads()  # a thread's first call adopts the common number, so it must happen before the next line
    torch.set_num_threads(threads)
    if threads > 1:
        # The line above also set the common number, which other threads adopt when they first compute. A temporary
        # thread resets the common number without changing ours.
        temporary = threading.Thread(target=torch.set_num_threads, args=(1,), name="one OpenMP thread")
        temporary.start()
        temporary.join()
