"""Tests early that torch.compile works, which needs a C++ compiler or Triton and otherwise fails in the first step."""

import logging
import secrets
import threading
from functools import cache

import torch
from torch import Tensor

from darkroom.model.user_error import UserError

log = logging.getLogger(__name__)


MOST_GRAPHS = 1 << 16
"""Graphs of all networks that a process may compile. PyTorch's own limit is 8 of one function."""

_thread = threading.local()


class CompilerMissing(UserError):
    """torch.compile does not work on this machine."""


def require_compiler(device: torch.device, setting: str) -> None:
    """Compile and run one line of arithmetic; takes seconds. Raises CompilerMissing when that fails.

    setting: name of the setting that asked for compilation, for the message.
    """
    size = 1 + secrets.randbelow(1 << 20)  # torch would load a size that it has compiled before from a cache on disk
    try:
        torch.compile(_line, dynamic=False)(torch.ones(size, device=device))
    except Exception as error:  # Dynamo, Inductor and Triton raise errors of many kinds
        reason = str(error).strip().splitlines()[0]
        raise CompilerMissing(
            f"{setting} needs a compiler, which does not work here ({reason}): install g++, or set it to false"
        ) from error


@cache
def compiler_works(device: torch.device) -> bool:
    """Return True when torch.compile works for the device. Tries it once in a process, and logs why it does not."""
    try:
        require_compiler(device, "full speed on CUDA")
    except CompilerMissing as error:
        log.warning("nothing is compiled, which is slower: %s", error)
        return False
    return True


def allow_many_graphs() -> None:
    """Let the calling thread compile MOST_GRAPHS graphs. Above its limit, PyTorch runs networks as they are."""
    if not hasattr(_thread, "limits_are_set"):
        from torch._dynamo import config  # its import takes a second

        # These settings belong to a thread.
        config.recompile_limit = config.accumulated_recompile_limit = MOST_GRAPHS
        _thread.limits_are_set = True


def _line(x: Tensor) -> Tensor:
    return x * 2.0 + 1.0
