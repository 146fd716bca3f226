"""Coordinates the processes that share the batches of a run, one for each device; torchrun starts them.

Without a process group there is one process, and nothing here costs time. DistributedDataParallel averages gradients.
This module exchanges only a few numbers each step, by gloo on every device.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
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

MEETING_PATIENCE = timedelta(minutes=20)
"""Longest time that one process waits for another to join, and to bring its network.

Until then no collective operation runs whose connection would tell of a process that hangs: in its driver, say.
"""
_LOOK_SECONDS = 0.2
_FAILED = "failed"

_store: Store | None = None
"""What the processes of this group tell each other outside collective operations; None without a group."""


class ProcessMissing(UserError):
    """Another process of the group has not come where all must meet, or has failed before."""


class FirstProcessError(UserError):
    """A call that only the first process makes has failed there; all others raise this error with its message."""


def launched_rank() -> int | None:
    """Return this process's number from the environment that torchrun sets; None without torchrun."""
    return int(os.environ["RANK"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else None


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes while the block runs; yields this process's device, on CUDA that of its local rank.

    Without torchrun or a similar launcher it yields `device` and does nothing else. Raises ProcessMissing when another
    process does not join within MEETING_PATIENCE.
    """
    global _store
    number = launched_rank()
    if number is None:
        yield device
        return
    size = int(os.environ["WORLD_SIZE"])
    _store = store = _connected(number)
    try:
        backend = "gloo"
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"
        _meet("the process group", number, size)
        dist.init_process_group(
            backend, store=PrefixStore("group", store), rank=number, world_size=size, timeout=PATIENCE
        )
        yield device
    except Exception as error:
        with suppress(dist.DistError):  # the process that holds the store may be gone
            store.set(_FAILED, f"process {number} has failed ({type(error).__name__}: {error})")
        raise
    finally:
        _store = None
        if dist.is_initialized():
            dist.destroy_process_group()


def _connected(number: int) -> Store:
    """Return the store of the launcher or, without one, that of the first process."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    holds = number == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    try:
        return dist.TCPStore(  # type: ignore[attr-defined]  # documented there
            host, port, is_master=holds, timeout=MEETING_PATIENCE, wait_for_workers=False, multi_tenant=True
        )
    except dist.DistError as error:
        raise ProcessMissing(
            f"process {number} of a training found no process 0 at {host}:{port} ({error}): see what process 0 says"
        ) from error


def _meet(where: str, number: int, size: int) -> None:
    """Wait until all processes have called this. Raises ProcessMissing after MEETING_PATIENCE, or when one has failed.

    where: for messages; they meet at each place once.
    """
    store, end = _store, time.monotonic() + MEETING_PATIENCE.total_seconds()
    assert store is not None
    store.set(f"{where} {number}", "here")
    while missing := [other for other in range(size) if not store.check([f"{where} {other}"])]:
        if store.check([_FAILED]):
            raise ProcessMissing(f"process {number} of a training ends: {store.get(_FAILED).decode()}")
        if time.monotonic() > end:
            named = ", ".join(map(str, missing))
            raise ProcessMissing(
                f"process {number} of a training waited {MEETING_PATIENCE} for process {named} of {size} at {where}: "
                f"see the last lines of process {named}, and whether its device answers"
            )
        time.sleep(_LOOK_SECONDS)


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
    """Wrap the network so that each backward pass ends with gradients averaged over all processes.

    Raises ProcessMissing when another process does not come here.
    """
    _meet("the first step", rank(), world_size())
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
