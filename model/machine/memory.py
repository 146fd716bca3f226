"""Errors of memory."""

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Return True when the device or the process had too little memory, so that a smaller batch may succeed."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
