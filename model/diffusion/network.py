"""The networks that can be trained: the only place that knows their classes."""

from typing import TypeVar

import torch
from torch import nn

from darkroom.model.config import ModelConfig
from darkroom.model.diffusion.unet import UNet

DenoisingNetwork = UNet
"""Every class that `build_network` may return."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def build_network(config: ModelConfig, classes: int, embedding_steps: int) -> DenoisingNetwork:
    """The network of that configuration with fresh weights; they follow from torch's seed.

    classes: labels besides the null label. embedding_steps: the T whose times it embeds.
    """
    return UNet(config, classes, embedding_steps)


def place(network: AnyModule, device: torch.device) -> AnyModule:
    """Move to a device and lay 4-D weights out as channels last, the layout that convolutions are fastest in."""
    network.to(device)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return network
