"""The interface of feature extractors: networks whose features metrics compare."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from darkroom.model.user_error import UserError


class MetricsUnavailable(UserError):
    """A network's package or weights are missing or not the expected ones; the message says what to install."""


class FeatureExtractor(Protocol):
    """Maps images to feature vectors. Distances can be compared only between equal names, weights and protocols."""

    @property
    def name(self) -> str:
        """Part of the figures' names, for instance "efficientnet-lite0"."""
        ...

    @property
    def weights_digest(self) -> str:
        """ "sha256:..." of the weights file."""
        ...

    @property
    def dimension(self) -> int:
        """D, the number of features of an image."""
        ...

    @property
    def device(self) -> torch.device:
        """The device on which the network runs."""
        ...

    @property
    def protocol(self) -> Mapping[str, str | int]:
        """How pixels become the network's input: resize filter, input side in pixels, normalisation."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3, on any device -> (N, D) float32 on the extractor's device."""
        ...

    def logits(self, features: Tensor) -> Tensor:
        """Features (N, D) -> logits (N, classes) of the network's classifier."""
        ...


def require_images(images: Tensor) -> None:
    """Raise ValueError for anything but (N, 1 or 3, H, W) uint8."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 1 or 3, H, W) uint8, not {tuple(images.shape)} {images.dtype}")
