"""Loads the networks of metrics by name."""

import torch

from darkroom.model.config import ExtractorName, MetricName
from darkroom.model.extension_points import EXTRACTORS, METRICS, load
from darkroom.model.metrics.extractor import FeatureExtractor
from darkroom.model.metrics.perceptual_distance import PerceptualNetwork


def load_extractor(name: ExtractorName, device: torch.device | None = None) -> FeatureExtractor:
    """Load the extractor of that name; raises MetricsUnavailable when it is not installed."""
    extractor: FeatureExtractor = load(EXTRACTORS[name])(device)
    return extractor


def load_perceptual(name: MetricName, device: torch.device | None = None) -> PerceptualNetwork:
    """Load the network of a metric of the kind `pairs`; raises MetricsUnavailable when it is not installed."""
    network: PerceptualNetwork = load(METRICS[name].measure)(device)
    return network
