"""The processes that share the batches of a run, one a device: torchrun starts them, and here they agree.

Without a process group there is one process, and everything below is free. Gradients are averaged by
DistributedDataParallel; what travels here is a few numbers a step, by gloo, whatever the device.
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
"""How long one process waits for another: the first may evaluate for hours while the others wait.

A process that dies is noticed at once all the same, by its closed connection.
"""


class FirstProcessError(UserError):
    """What the first process alone was to do went wrong there; raised in all the others, with its message."""


def launched_rank() -> int | None:
    """This process's number as the environment has it that torchrun sets; None where nobody started several."""
    return int(os.environ["RANK"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else None


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes while the block runs; yields this one's device, for `cuda` that of its local rank.

    Does nothing when neither torchrun nor anything like it started this process.
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
    """Processes in all."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, 0 for the first, which alone records."""
    return dist.get_rank() if world_size() > 1 else 0


def own_rows(size: int) -> slice:
    """This process's part of `size` rows: consecutive, disjoint, together all; it may be empty."""
    return slice(size * rank() // world_size(), size * (rank() + 1) // world_size())


def sums(values: Sequence[float]) -> list[float]:
    """The sum of each value over all processes, the same bits in every one."""
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return [float(value) for value in total]


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return sums([float(flag)])[0] > 0


def from_first(make: Callable[[], T]) -> T:
    """`make` is called in the first process only; every process gets its result when it is done.

    Its exception is raised in the first process, and FirstProcessError in the others.
    """
    if world_size() == 1:
        return make()
    message: list[Any] = [None, None]  # the value, or what went wrong
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


def averaging_gradients(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The network, with each gradient replaced by its mean over all processes when a backward pass ends."""
    # In a group of its own, as it never lets go of the group that it is given (seen with torch 2.13). What Python
    # sends goes through the other one, whose threads are therefore gone when the interpreter ends: a thread that then
    # still had to release a tensor of Python's would abort the process.
    own = dist.new_group(timeout=PATIENCE)
    return DistributedDataParallel(network, [device] if device.type == "cuda" else None, process_group=own)


def first_then_others(make: Callable[[], T]) -> T:
    """`make` is called in every process, in the first one before the others: for what fills a shared cache."""
    made: list[T] = []
    from_first(lambda: made.append(make()))
    return made[0] if made else make()
