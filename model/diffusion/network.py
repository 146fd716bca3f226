"""Builds the networks that can be trained; only this module and `unet.py` know their classes."""

from typing import TypeVar

import torch
from torch import nn

from darkroom.model.config import ModelConfig
from darkroom.model.diffusion.cpu_network import CpuNetwork
from darkroom.model.diffusion.denoiser import Network
from darkroom.model.diffusion.unet import UNet

DenoisingNetwork = UNet
"""Every class that `build_network` may return."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def build_network(config: ModelConfig, classes: int, embedding_steps: int) -> DenoisingNetwork:
    """Build a network with new weights, which depend on torch's global seed only.

    classes: number of labels without the null label. embedding_steps: T, as `UNet` takes it.
    """
    return UNet(config, classes, embedding_steps)


MOST_PARAMETERS = 1_000_000_000
"""A recipe's network may have so many: 4 GB in float32. A training holds about four times that."""


def unfilled(config: ModelConfig, classes: int, embedding_steps: int) -> DenoisingNetwork:
    """Build a network without weights. It takes no memory, however large the network is."""
    with torch.device("meta"):
        return build_network(config, classes, embedding_steps)


def parameters_of(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(one.numel() for one in network.parameters())


def place(network: AnyModule, device: torch.device) -> AnyModule:
    """Move a network to a device and its 4-D weights to channels-last layout, the fastest one for convolutions."""
    network.to(device)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return network


def drawing_network(network: DenoisingNetwork, config: ModelConfig, device: torch.device) -> Network:
    """Return a trained network in the form that draws fastest on the device. `network` must not be used any more."""
    if device.type == "cpu":
        return CpuNetwork(network, (config.image_channels, config.image_size, config.image_size))
    return place(network, device).eval().requires_grad_(False)
