"""Carries out a network with convolutions and matrix products in bfloat16 and all else in float32."""

import torch
from torch import Tensor, nn


class MixedPrecision(nn.Module):
    """A network in the form that `Denoiser` calls; the results are those of autocast to bfloat16, to the last bit.

    Autocast would cast the weights at each call; here they are cast once. `network` must not be used any more.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(torch.bfloat16)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the network's output in float32. x: (B, C, H, W) float32; t: (B,); labels as in `UNet.forward`."""
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            output: Tensor = self.network(x, t, labels)
        return output.float()
