"""One thread of a process computes in parallel."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from darkroom.model.machine.threads import compute_with


def in_a_new_thread(ask: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(ask).result()


def compute() -> int:
    """Run an operation that torch divides among threads; returns the number of threads."""
    (torch.ones(512, 512) @ torch.ones(512, 512)).exp()
    return torch.get_num_threads()


def test_the_thread_that_asks_computes_with_many_and_new_threads_compute_alone() -> None:
    mine: list[int] = []
    asked, looked = threading.Event(), threading.Event()

    def ask() -> None:
        compute_with(3)
        mine.append(compute())
        asked.set()
        looked.wait(60)
        compute_with(1)
        mine.append(compute())
        compute_with(2)
        mine.append(compute())

    asking = threading.Thread(target=ask)
    asking.start()
    assert asked.wait(60)
    beside = in_a_new_thread(compute)
    looked.set()
    asking.join()
    assert mine == [3, 1, 2]
    assert beside == 1
    assert in_a_new_thread(compute) == 1
    assert compute() == 1, "this thread has computed before and keeps its number"
