"""One thread of a process computes in parallel."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from darkroom.app.cli.training_processes import training_processes
from darkroom.model.machine.threads import compute_with, computing_alone, computing_with_all


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


@pytest.fixture
def two() -> Iterator[None]:
    """New threads compute with two threads, as in a process of two cores that has decided nothing."""
    with ThreadPoolExecutor(1) as new:
        new.submit(torch.set_num_threads, 2).result()
        yield
        new.submit(torch.set_num_threads, 1).result()


@pytest.mark.usefixtures("two")
def test_a_training_in_a_users_process_computes_with_all_and_leaves_the_process_as_it_was() -> None:
    def train() -> list[int]:
        found = [compute()]
        for _ in range(2):
            with computing_with_all():
                found += [compute(), in_a_new_thread(compute)]
            found.append(compute())
        return found

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(train).result() == [2, 2, 1, 2, 2, 1, 2]
    assert in_a_new_thread(compute) == 2


@pytest.mark.usefixtures("two")
def test_drawing_computes_alone_and_leaves_all_threads_as_they_were() -> None:
    def draw(many: bool) -> list[int]:
        if many:
            compute_with(2)
        with computing_alone():
            found = [compute()]
        return [*found, compute(), in_a_new_thread(compute)]

    for many, elsewhere in ((False, 2), (True, 1)):
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(draw, many).result() == [1, 2, elsewhere]


@pytest.mark.usefixtures("two")
def test_the_training_thread_of_the_command_computes_with_all_and_other_threads_with_one() -> None:
    def train() -> tuple[int, int]:
        with training_processes(1):
            return compute(), in_a_new_thread(compute)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(train).result() == (2, 1)
