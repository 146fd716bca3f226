"""Calls a network with a few fixed batch sizes only, for devices that compile or capture a graph for each shape."""

import threading
from typing import Any

import torch
from torch import Tensor

from darkroom.model.diffusion.denoiser import Network

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MOST_GRAPHS = 1 << 16
"""Graphs of all versions that a process may compile. PyTorch's own limit is 8 of one function."""

_thread = threading.local()


class FixedShapes:
    """A network that sees each bucket's batches in the same tensors, padded with zero rows whose outputs it drops.

    Rows do not influence each other in the network, so padding changes only the shape. Shapes, strides and addresses
    stay the same, so that nothing is compiled or captured twice: images of one channel, say, have other strides when
    they were concatenated. A batch above the largest bucket is passed on as it is. One thread calls it.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._inputs: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the network's output. x: (B, C, H, W); t: (B,); labels: (B,) or (B, classes + 1)."""
        rows = len(x)
        bucket = next((size for size in BUCKETS if size >= rows), None)
        if bucket is None:
            return self._network(x.contiguous(memory_format=torch.channels_last), t, labels)
        held = self._held(bucket, x, t, labels)
        for whole, part in zip(held, (x, t, labels), strict=True):
            whole[:rows].copy_(part)
            whole[rows:].zero_()
        return self._network(*held)[:rows]

    def _held(self, bucket: int, *parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tensors of a bucket for parts of these shapes and kinds."""
        shapes = [torch.Size((bucket, *part.shape[1:])) for part in parts]
        key = (*shapes, *(part.dtype for part in parts))
        if key not in self._inputs:
            x, t, labels = (part.new_empty(shape) for part, shape in zip(parts, shapes, strict=True))
            self._inputs[key] = torch.empty_like(x, memory_format=torch.channels_last), t, labels
        return self._inputs[key]


def compile_whole(network: Network, **how: Any) -> Network:
    """Return the network compiled as a whole. how: `backend` or `mode` of torch.compile.

    PyTorch would run what it cannot compile, and all graphs above its limit, as they are, with a line in the log. Here
    both raise an error, so that a slow service does not look like a fast one.
    """
    compiled = torch.compile(network, fullgraph=True, **how)

    def called(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if not hasattr(_thread, "limits_are_set"):
            from torch._dynamo import config  # its import takes a second

            # These settings belong to a thread.
            config.recompile_limit = config.accumulated_recompile_limit = MOST_GRAPHS
            _thread.limits_are_set = True
        return compiled(x, t, labels)

    return called


def prepare_network(network: Network, device: torch.device, *, compiled: bool) -> Network:
    """Return the network in the form that the engine calls.

    On CUDA: bfloat16 autocast, fixed shapes, and CUDA graphs if `compiled`. On the CPU the network is in that form
    already (`model/diffusion/cpu_network.py`).
    """
    if device.type == "cuda":
        captured = compile_whole(network, mode="reduce-overhead") if compiled else network

        def autocast(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                # A captured graph overwrites its output memory at the next call, so return a copy.
                output: Tensor = captured(x, t, labels).float().clone()
            return output

        return FixedShapes(autocast)
    return network
