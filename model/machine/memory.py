"""Memory of the device."""

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device or the process had no room, so that a smaller batch may do."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
