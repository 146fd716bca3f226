"""Calls a network with a few fixed batch sizes only, for devices that compile or capture a graph for each shape."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from darkroom.model.diffusion.denoiser import Network
from darkroom.model.machine.compiler import allow_many_graphs

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class FixedShapes:
    """A network that sees each bucket's batches in the same tensors, padded with zero rows whose outputs it drops.

    Rows do not influence each other in the network, so padding changes only the shape. Shapes, strides and addresses
    stay the same, so that nothing is compiled or captured twice: images of one channel, say, have other strides when
    they were concatenated. One thread at a time calls it.

    buckets: batch sizes, growing. A batch above the last is divided.
    """

    def __init__(self, network: Network, buckets: Sequence[int] = BUCKETS) -> None:
        self._network = network
        self._buckets = buckets
        self._inputs: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the network's output. x: (B, C, H, W); t: (B,); labels: (B,) or (B, classes + 1)."""
        rows, most = len(x), self._buckets[-1]
        if rows > most:
            parts = [slice(first, first + most) for first in range(0, rows, most)]
            return torch.cat([self(x[part], t[part], labels[part]) for part in parts])
        bucket = next(size for size in self._buckets if size >= rows)
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
        allow_many_graphs()
        return compiled(x, t, labels)

    return called
