"""A training leaves cores to other processes."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from darkroom.model.machine import shared_cores
from darkroom.model.machine.shared_cores import LOOK_SECONDS, SharedCores, leave_cores, machine_seconds, sharing_cores
from darkroom.model.machine.threads import compute_with

T = TypeVar("T")


class _Machine:
    """A machine of four cores on which this process trains with four threads. others: cores that others use."""

    def __init__(self) -> None:
        self.now = self.machine = self.own = 0.0
        compute_with(4)
        self.cores = SharedCores(4, lambda: self.machine, lambda: self.own, lambda: self.now)

    def threads_after(self, others: float, seconds: float = LOOK_SECONDS) -> int:
        self.now += seconds
        self.own += 2.5 * seconds
        self.machine += (2.5 + others) * seconds
        self.cores.follow()
        return torch.get_num_threads()


def _on_a_new_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def test_it_leaves_what_others_use_and_takes_it_back() -> None:
    def train() -> list[int]:
        machine = _Machine()
        return [machine.threads_after(others) for others in (0.05, 0.5, 1.0, 2.0, 9.0, 1.05, 0.0)]

    assert _on_a_new_thread(train) == [4, 3, 3, 2, 1, 3, 4]


def test_it_looks_at_all_the_time_since_the_last_look() -> None:
    def train() -> list[int]:
        machine = _Machine()
        return [machine.threads_after(*step) for step in ((4.0, 0.5 * LOOK_SECONDS), (0.0, 0.5 * LOOK_SECONDS))]

    assert _on_a_new_thread(train) == [4, 2]


def test_the_number_stays_where_nothing_is_known_of_the_machine() -> None:
    def train() -> list[int]:
        machine = _Machine()
        machine.cores = SharedCores(4, lambda: None, lambda: machine.own, lambda: machine.now)
        return [machine.threads_after(3.0), machine.threads_after(0.0)]

    assert _on_a_new_thread(train) == [4, 4]


def test_the_number_stays_when_the_same_bits_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_cores, "computes_deterministically", lambda: True)
    assert _on_a_new_thread(lambda: _Machine().threads_after(3.0)) == 4


def test_a_block_leaves_cores_on_its_own_thread_and_ends_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> list[int]:
        machine, found = _Machine(), list[int]()
        monkeypatch.setattr(shared_cores, "SharedCores", lambda: machine.cores)
        with sharing_cores():
            machine.threads_after(0.0)
            for others in (3.0, 2.0):
                machine.now += LOOK_SECONDS
                machine.machine += others * LOOK_SECONDS
                with sharing_cores():
                    leave_cores()
                found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())
        leave_cores()
        return found

    assert _on_a_new_thread(work) == [1, 2, 4]
    assert _on_a_new_thread(torch.get_num_threads) == 1


def test_all_processes_have_used_more_time_than_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seconds = machine_seconds()
    assert seconds is None or seconds > time.process_time()
    monkeypatch.setattr(shared_cores, "STAT", tmp_path / "none")
    assert machine_seconds() is None
    (tmp_path / "none").write_text("cpu  100 200 300 9000 50 6 7 800 0 0\ncpu0 1 1 1 1\n")
    assert machine_seconds() == pytest.approx(613 / os.sysconf("SC_CLK_TCK"))
