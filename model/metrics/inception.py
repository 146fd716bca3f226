"""Inception v3 with the TensorFlow weights of 2015-12-05, whose features define FID (Heusel et al. 2017).

The network and its TensorFlow-like bilinear scaling come from torch-fidelity (the optional extra `inception`, which
needs torchvision). The operator supplies the weights as a file; nothing is downloaded. Tests run this adapter with a
substitute for torch-fidelity. It has not been run with the real package and weights.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from darkroom.model.digest import digest_of
from darkroom.model.extras import NETWORKS, import_extra
from darkroom.model.metrics.extractor import MetricsUnavailable, require_images

WEIGHTS_VARIABLE = NETWORKS["inception"].variable
"""Environment variable with the path of the weights: torch-fidelity's weights-inception-2015-12-05-6726825d.pth."""

WEIGHTS_DIGEST = "sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

FEATURES = 2048


class Inception:
    """Extracts the 2048 features before the classifier, averaged over positions.

    Raises MetricsUnavailable when the extra `inception` is not installed, or DARKROOM_INCEPTION_WEIGHTS does not name
    the expected file.
    """

    name = "inception"
    weights_digest = WEIGHTS_DIGEST
    dimension = FEATURES
    protocol: Mapping[str, str | int] = MappingProxyType(
        {"resize": "bilinear-tensorflow1", "input_pixels": 299, "normalisation": "(x - 128) / 128"}
    )

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        path = verified_file(WEIGHTS_VARIABLE, WEIGHTS_DIGEST, "Inception's weights")
        fidelity = import_extra("torch_fidelity.feature_extractor_inceptionv3", "inception", MetricsUnavailable)
        network = fidelity.FeatureExtractorInceptionV3(
            self.name, [str(FEATURES)], feature_extractor_weights_path=str(path)
        )
        self._network = network.to(self.device).eval()

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, C = 1 or 3 -> (N, 2048) float32. Raises ValueError for anything else."""
        require_images(images)
        (found,) = self._network(images.to(self.device).expand(-1, 3, -1, -1))
        features: Tensor = found
        return features

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """(N, 2048) -> (N, 1008) logits without the bias, as the Inception Score uses them."""
        weight: Tensor = self._network.fc.weight
        return features.to(self.device) @ weight.T


def verified_file(variable: str, digest: str, what: str) -> Path:
    """Return the path in an environment variable, after checking that the file's SHA-256 is `digest`.

    what: names the file in messages. Raises MetricsUnavailable when the variable is not set, or the file is missing or
    has another digest.
    """
    named = os.environ.get(variable)
    if not named:
        raise MetricsUnavailable(f"{what} are missing: set {variable} to the path of their file ({digest})")
    path = Path(named)
    try:
        found = digest_of(path.read_bytes())
    except OSError as error:
        raise MetricsUnavailable(f"{variable}: {path}: {error.strerror}") from error
    if found != digest:
        raise MetricsUnavailable(f"{variable}: {path} is not {what}: {found} instead of {digest}")
    return path
