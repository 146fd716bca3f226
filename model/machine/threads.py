"""Threads inside one operation: one thread of a process computes in parallel, every other one alone.

GNU OpenMP counts the teams of all threads of a process. Once their members outnumber the cores, the teams no longer
spin between two parallel regions. Each region then costs a sleep and a wake-up, and a small step takes twice as long.
"""

import threading

import torch

_mine = threading.local()


def compute_with(threads: int) -> None:
    """Let the operations of the calling thread use so many threads, and those of threads yet to compute use one.

    Only one thread of a process may ask for more than one. Threads that have computed before keep their number.
    """
    if getattr(_mine, "threads", None) == threads:
        return
    _mine.threads = threads
    torch.get_num_threads()  # a thread's first call takes up the common number, which is thereby done
    torch.set_num_threads(threads)
    if threads > 1:
        # This has also set the common number, which other threads take up when they first compute. A passing thread
        # sets that one alone back.
        passing = threading.Thread(target=torch.set_num_threads, args=(1,), name="one OpenMP thread")
        passing.start()
        passing.join()
