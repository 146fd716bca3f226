"""The extractors by name."""

import torch

from model.metrics.efficientnet import EfficientNetLite0
from model.metrics.extractor import FeatureExtractor
from model.metrics.names import ExtractorName


def load_extractor(name: ExtractorName, device: torch.device | None = None) -> FeatureExtractor:
    """The extractor of that name; raises MetricsUnavailable when it is not installed."""
    if name == "inception":
        from model.metrics.inception import Inception

        return Inception(device)
    return EfficientNetLite0(device)
