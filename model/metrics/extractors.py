"""The networks of the metrics by name."""

import torch

from model.metrics.efficientnet import EfficientNetLite0
from model.metrics.extractor import FeatureExtractor
from model.metrics.names import ExtractorName, MetricName
from model.metrics.perceptual_distance import PerceptualNetwork


def load_extractor(name: ExtractorName, device: torch.device | None = None) -> FeatureExtractor:
    """The extractor of that name; raises MetricsUnavailable when it is not installed."""
    if name == "inception":
        from model.metrics.inception import Inception

        return Inception(device)
    return EfficientNetLite0(device)


def load_perceptual(name: MetricName, device: torch.device | None = None) -> PerceptualNetwork:
    """The network of the metric `perceptual` or `lpips`; raises MetricsUnavailable when it is not installed."""
    if name == "lpips":
        from model.metrics.lpips import LPIPS

        return LPIPS(device)
    return EfficientNetLite0(device)
