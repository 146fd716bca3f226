"""Perceptual distances between single images, in the maps of a network's layers.

    d(x, y) = sum over layers l of 1 / (H_l W_l) sum_{h, w} |w_l * (f_l(x)_hw - f_l(y)_hw)|^2

with f_l the map's channel vectors at unit length (Zhang et al. 2018, equation 1). LPIPS has learned weights w_l; the
distance with w_l = 1 has another name. d is the squared Euclidean distance of the points that `embedding` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

_SMALLEST_LENGTH = 1e-10


class PerceptualNetwork(Protocol):
    """Maps images to points whose squared distance is the perceptual distance."""

    @property
    def metric(self) -> str:
        """Prefix of the figures' names, for instance "perceptual-efficientnet-lite0"."""
        ...

    @property
    def weights_digest(self) -> str:
        """ "sha256:..." of the weights."""
        ...

    @property
    def device(self) -> torch.device:
        """The device on which the network runs."""
        ...

    @property
    def perceptual_protocol(self) -> Mapping[str, str | int]:
        """How pixels become the network's input, and which layers are compared."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3, on any device -> (N, E) float32 on the network's device."""
        ...


def embedding(maps: Sequence[Tensor], weights: Sequence[Tensor] | None = None) -> Tensor:
    """Return points (N, E) for maps (N, C_l, H_l, W_l). weights: (C_l,) >= 0 each, the w_l^2 above; default: ones."""
    parts = []
    for layer, x in enumerate(maps):
        unit = x / (x.square().sum(1, keepdim=True).sqrt() + _SMALLEST_LENGTH)
        if weights is not None:
            unit = unit * weights[layer].sqrt().reshape(1, -1, 1, 1)
        parts.append(unit.flatten(1) / (x.shape[2] * x.shape[3]) ** 0.5)
    return torch.cat(parts, dim=1)


def network_facts(network: PerceptualNetwork) -> dict[str, str | int | float | None]:
    """Return the facts that determine an embedding."""
    protocol = {f"extractor_{name}": value for name, value in network.perceptual_protocol.items()}
    name = network.metric.removeprefix("perceptual-")
    return {"extractor": name, "extractor_weights_digest": network.weights_digest, **protocol}
