"""Free memory, and errors of memory."""

from contextlib import suppress

import torch

from darkroom.model.machine import control_group

OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What PyTorch and its libraries say when memory runs out outside PyTorch's own allocator."""


def available_bytes() -> int | None:
    """Return the memory that this process may still take: the machine's, or its control group's if that is less.

    Returns None on a system that does not say.
    """
    found = []
    with suppress(OSError, ValueError, KeyError):
        found.append(1024 * control_group.numbers(control_group.PROC / "meminfo")["MemAvailable:"])
    group = control_group.group_memory()
    if group is not None:
        found.append(group.limit - group.used)
    return min(found, default=None)


def is_out_of_memory(error: Exception) -> bool:
    """Return True when the device or the process had too little memory, so that a smaller batch may succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def is_device_lost(error: Exception) -> bool:
    """Return True when the device answers nothing more in this process: after a failed assertion in a kernel, say.

    CUDA reports the fault at each later call, too, so only a new process can go on.
    """
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)
