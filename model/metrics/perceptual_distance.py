"""Distances between single images as a network sees them, in its layers' maps.

    d(x, y) = sum over layers l of 1 / (H_l W_l) sum_{h, w} |w_l * (f_l(x)_hw - f_l(y)_hw)|^2

with f_l the map's channel vectors at unit length (Zhang et al. 2018, equation 1). LPIPS has learned weights w_l; with
w_l = 1 it is a distance under its own name. As d is a squared Euclidean distance, `embedding` gives the points.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

_SMALLEST_LENGTH = 1e-10


class PerceptualNetwork(Protocol):
    """Images to points whose squared distance is the perceptual one."""

    @property
    def metric(self) -> str:
        """How the figures' names begin, for instance "perceptual-efficientnet-lite0"."""
        ...

    @property
    def weights_digest(self) -> str:
        """ "sha256:..." of the weights."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        ...

    @property
    def perceptual_protocol(self) -> Mapping[str, str | int]:
        """How pixels become the network's input, and its layers."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3, on any device -> (N, E) float32 on the network's device."""
        ...


def embedding(maps: Sequence[Tensor], weights: Sequence[Tensor] | None = None) -> Tensor:
    """(N, E) of maps (N, C_l, H_l, W_l). weights: (C_l,) >= 0 each, the w_l^2 above; ones where left out."""
    parts = []
    for layer, x in enumerate(maps):
        unit = x / (x.square().sum(1, keepdim=True).sqrt() + _SMALLEST_LENGTH)
        if weights is not None:
            unit = unit * weights[layer].sqrt().reshape(1, -1, 1, 1)
        parts.append(unit.flatten(1) / (x.shape[2] * x.shape[3]) ** 0.5)
    return torch.cat(parts, dim=1)


def network_facts(network: PerceptualNetwork) -> dict[str, str | int | float | None]:
    """What fixes an embedding."""
    protocol = {f"extractor_{name}": value for name, value in network.perceptual_protocol.items()}
    name = network.metric.removeprefix("perceptual-")
    return {"extractor": name, "extractor_weights_digest": network.weights_digest, **protocol}
