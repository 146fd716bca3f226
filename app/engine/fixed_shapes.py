"""A network called with a few fixed batch sizes only, for devices that compile or capture a graph per shape."""

import torch
from torch import Tensor

from darkroom.model.diffusion.denoiser import Network

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class FixedShapes:
    """Pads a batch to the next bucket with zero rows and drops their outputs.

    Rows do not influence each other in the network, so padding changes nothing but the shape. Batches beyond the
    largest bucket are passed on as they are.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """x: (B, C, H, W); t: (B,); labels: (B,) or (B, classes + 1)."""
        rows = len(x)
        bucket = next((size for size in BUCKETS if size >= rows), rows)
        if bucket == rows:
            return self._network(x.contiguous(), t, labels)  # other strides would be compiled again
        x, t, labels = (torch.cat([part, part.new_zeros(bucket - rows, *part.shape[1:])]) for part in (x, t, labels))
        return self._network(x, t, labels)[:rows]


def prepare_network(network: Network, device: torch.device, *, compiled: bool) -> Network:
    """The network as the engine calls it.

    On CUDA: bfloat16 autocast, fixed shapes, and CUDA graphs where it is `compiled`. On the CPU: float32, and fixed
    shapes where it is `compiled`, which takes minutes of warm-up.
    """
    if device.type == "cuda":
        captured = torch.compile(network, mode="reduce-overhead") if compiled else network

        def autocast(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                # Captured graphs reuse their output memory at the next call.
                output: Tensor = captured(x.contiguous(memory_format=torch.channels_last), t, labels).float().clone()
            return output

        return FixedShapes(autocast)
    return FixedShapes(torch.compile(network)) if compiled else network
