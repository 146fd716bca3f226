"""Calls a network with a few fixed batch sizes only, for devices that compile or capture a graph for each shape."""

import torch
from torch import Tensor

from darkroom.model.diffusion.denoiser import Network

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class FixedShapes:
    """A network that pads each batch with zero rows to the next bucket, and drops their outputs.

    Rows do not influence each other in the network, so padding changes only the shape. A batch above the largest
    bucket is not padded.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the network's output. x: (B, C, H, W); t: (B,); labels: (B,) or (B, classes + 1)."""
        rows = len(x)
        bucket = next((size for size in BUCKETS if size >= rows), rows)
        if bucket == rows:
            return self._network(x.contiguous(), t, labels)  # other strides would cause another compilation
        x, t, labels = (torch.cat([part, part.new_zeros(bucket - rows, *part.shape[1:])]) for part in (x, t, labels))
        return self._network(x, t, labels)[:rows]


def prepare_network(network: Network, device: torch.device, *, compiled: bool) -> Network:
    """Return the network in the form that the engine calls.

    On CUDA: bfloat16 autocast, fixed shapes, and CUDA graphs if `compiled`. On the CPU the network is in that form
    already (`model/diffusion/cpu_network.py`).
    """
    if device.type == "cuda":
        captured = torch.compile(network, mode="reduce-overhead") if compiled else network

        def autocast(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                # A captured graph overwrites its output memory at the next call, so return a copy.
                output: Tensor = captured(x.contiguous(memory_format=torch.channels_last), t, labels).float().clone()
            return output

        return FixedShapes(autocast)
    return network
