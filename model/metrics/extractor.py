"""What a metric needs of the network in whose features images are compared."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from darkroom.model.user_error import UserError


class MetricsUnavailable(UserError):
    """The extractor's weights are missing or not the expected ones; the message says what to install."""


class FeatureExtractor(Protocol):
    """Images to feature vectors. Two distances compare only if name, weights and protocol are equal."""

    @property
    def name(self) -> str:
        """Part of the metrics' names, for instance "efficientnet-lite0"."""
        ...

    @property
    def weights_digest(self) -> str:
        """ "sha256:..." of the weights file."""
        ...

    @property
    def dimension(self) -> int:
        """D, the features of an image."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        ...

    @property
    def protocol(self) -> Mapping[str, str | int]:
        """How pixels become the network's input: resize filter, input side in pixels, normalisation."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3, on any device -> (N, D) float32 on the extractor's device."""
        ...

    def logits(self, features: Tensor) -> Tensor:
        """Features (N, D) -> what the network's classifier makes of them, (N, classes), before the softmax."""
        ...


def require_images(images: Tensor) -> None:
    """Raises ValueError for anything but (N, 1 or 3, H, W) uint8."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"features are of (N, 1 or 3, H, W) uint8, not {tuple(images.shape)} {images.dtype}")
