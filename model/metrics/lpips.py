"""LPIPS: distances in AlexNet's layers, weighted to fit human judgements (Zhang et al. 2018, weights version 0.1).

The network and the layers' weights come from the package lpips (the optional extra `lpips`, which needs torchvision).
The operator supplies AlexNet's ImageNet weights as a file; nothing is downloaded. Tests run this adapter with a
substitute for the package. It has not been run with the real package and weights.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from darkroom.model.digest import digest_of
from darkroom.model.extras import NETWORKS, import_extra
from darkroom.model.metrics.extractor import MetricsUnavailable, require_images
from darkroom.model.metrics.inception import verified_file
from darkroom.model.metrics.perceptual_distance import embedding

ALEXNET_VARIABLE = NETWORKS["lpips"].variable
"""Environment variable with the path of AlexNet's weights: torchvision's alexnet-owt-7be5be79.pth."""

ALEXNET_DIGEST = "sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
LAYER_WEIGHTS_DIGEST = "sha256:df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"

SMALLEST_SIDE = 64
"""Smaller images are enlarged to this side: the layers' weights were learned at it, and half of it is too small for
AlexNet."""


class LPIPS:
    """Measures distances by LPIPS 0.1 on AlexNet.

    Raises MetricsUnavailable when the extra `lpips` is not installed, its layer weights are not the expected ones, or
    DARKROOM_LPIPS_ALEXNET does not name the expected file.
    """

    metric = "lpips-alex"
    weights_digest = digest_of(f"{ALEXNET_DIGEST} {LAYER_WEIGHTS_DIGEST}".encode())
    perceptual_protocol: Mapping[str, str | int] = MappingProxyType(
        {"resize": f"bicubic-antialias up to {SMALLEST_SIDE}", "normalisation": "LPIPS 0.1", "layers": "all five"}
    )

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        alexnet = verified_file(ALEXNET_VARIABLE, ALEXNET_DIGEST, "AlexNet's weights")
        lpips = import_extra("lpips", "lpips", MetricsUnavailable)
        layer_weights = Path(str(lpips.__file__)).parent / "weights" / "v0.1" / "alex.pth"
        found = digest_of(layer_weights.read_bytes())
        if found != LAYER_WEIGHTS_DIGEST:
            raise MetricsUnavailable(f"{layer_weights}: is {found} instead of {LAYER_WEIGHTS_DIGEST}")
        # With pnet_rand the package downloads no pretrained network.
        network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, model_path=str(layer_weights), verbose=False)
        _load_alexnet(network.net, torch.load(alexnet, map_location="cpu", weights_only=True))
        self._network = network.to(self.device).eval()

    @torch.inference_mode()
    def embed(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3 -> (N, E) float32, points of `model/metrics/perceptual_distance.py`."""
        require_images(images)
        x = images.to(self.device).float().expand(-1, 3, -1, -1) / 127.5 - 1.0
        if x.shape[2] < SMALLEST_SIDE:
            x = nn.functional.interpolate(x, (SMALLEST_SIDE, SMALLEST_SIDE), mode="bicubic", antialias=True)
        maps = self._network.net(self._network.scaling_layer(x))
        return embedding(maps, [layer.model[-1].weight.flatten().clamp(min=0.0) for layer in self._network.lins])


def _load_alexnet(slices: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load torchvision's "features.N.weight" into lpips's slices, "sliceK.N.weight"."""
    slices.load_state_dict({name: weights[f"features.{name.partition('.')[2]}"] for name in slices.state_dict()})
