"""Gives one thread of a process several OpenMP threads for its operations, and every other thread only one.

GNU OpenMP counts the teams of all threads of a process. Once their members outnumber the cores, the teams no longer
spin between two parallel regions. Each region then costs a sleep and a wake-up, and a small step takes twice as long.
"""

import threading

import torch

_mine = threading.local()


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
