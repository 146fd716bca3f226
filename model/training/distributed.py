"""Coordinates the processes that share the batches of a run, one for each device; torchrun starts them.

Without a process group there is one process, and nothing here costs time. DistributedDataParallel averages gradients.
This module exchanges only a few numbers each step, by gloo on every device.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from darkroom.model.user_error import UserError

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""Longest time that one process waits for another: the others wait while the first evaluates, which may take hours.

A process that dies is noticed at once by its closed connection.
"""
GRADIENT_PATIENCE = timedelta(minutes=20)
"""Longest time that one process waits for another's gradients, so that a GPU that hangs does not hold a job for a day.

The processes begin each step together, but each may first compile its network.
"""


class FirstProcessError(UserError):
    """A call that only the first process makes has failed there; all others raise this error with its message."""


def launched_rank() -> int | None:
    """Return this process's number from the environment that torchrun sets; None without torchrun."""
    return int(os.environ["RANK"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else None


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes while the block runs; yields this process's device, on CUDA that of its local rank.

    Without torchrun or a similar launcher it yields `device` and does nothing else.
    """
    if launched_rank() is None:
        yield device
        return
    backend = "gloo"
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number; the first is 0, and only it records."""
    return dist.get_rank() if world_size() > 1 else 0


def own_rows(size: int) -> slice:
    """Return this process's part of `size` rows. Parts are consecutive and disjoint, cover all rows, may be empty."""
    return slice(size * rank() // world_size(), size * (rank() + 1) // world_size())


def sums(values: Sequence[float]) -> list[float]:
    """Return the sum of each value over all processes, bit for bit the same in every process."""
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return [float(value) for value in total]


def any_of(flag: bool) -> bool:
    """Return True when the flag is set in any process."""
    return sums([float(flag)])[0] > 0


def from_first(make: Callable[[], T]) -> T:
    """Call `make` in the first process only, and return its result in every process.

    When it fails, the first process raises its exception, and the others raise FirstProcessError.
    """
    if world_size() == 1:
        return make()
    message: list[Any] = [None, None]  # the value, the error's text
    failure: Exception | None = None
    if rank() == 0:
        try:
            message[0] = make()
        except Exception as error:
            failure = error
            message[1] = f"{type(error).__name__}: {error}"
    dist.broadcast_object_list(message, src=0, device=torch.device("cpu"))
    if failure is not None:
        raise failure
    if message[1] is not None:
        raise FirstProcessError(message[1])
    value: T = message[0]
    return value


def bytes_from_first(make: Callable[[], tuple[str, bytes] | None]) -> tuple[str, bytes] | None:
    """Like `from_first`, for a name and many bytes. The bytes travel as a tensor: `from_first` would pickle them."""
    made: list[bytes] = []

    def described() -> tuple[str, int] | None:
        found = make()
        if found is None:
            return None
        made.append(found[1])
        return found[0], len(found[1])

    told = from_first(described)
    if told is None:
        return None
    name, size = told
    if world_size() > 1:
        held = torch.frombuffer(bytearray(made[0]), dtype=torch.uint8) if made else torch.empty(size, dtype=torch.uint8)
        dist.broadcast(held, src=0)
        made = made or [held.numpy().tobytes()]
    return name, made[0]


def averaging_gradients(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Wrap the network so that each backward pass ends with gradients averaged over all processes."""
    # DistributedDataParallel never releases its process group (seen with torch 2.13), so it gets a group of its own.
    # Tensors from Python go through the default group, whose threads then end before the interpreter. A thread that
    # releases a Python tensor after the interpreter's end aborts the process.
    own = dist.new_group(timeout=GRADIENT_PATIENCE)
    return DistributedDataParallel(network, [device] if device.type == "cuda" else None, process_group=own)


def first_then_others(make: Callable[[], T]) -> T:
    """Call `make` in every process, first in the first one, so that it fills a shared cache for the others."""
    made: list[T] = []
    from_first(lambda: made.append(make()))
    return made[0] if made else make()
