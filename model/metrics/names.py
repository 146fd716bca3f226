"""The metrics' names: what a recipe asks for, and which of the figures that come of it are better when higher."""

from typing import Literal

MetricName = Literal["fid", "kid", "bits_per_dimension", "precision_recall", "confidence", "perceptual", "lpips"]
"""What can be measured. A figure's own name says its extractor too, for instance "fid-efficientnet-lite0"."""

ExtractorName = Literal["efficientnet-lite0", "inception"]

DECIDING: tuple[MetricName, ...] = ("fid", "kid", "bits_per_dimension")
"""The first of these that was measured decides which checkpoint of a run is the best; of each, less is better."""

BITS_PER_DIMENSION = "bits-per-dimension"

IN_FEATURES: frozenset[MetricName] = frozenset({"fid", "kid", "precision_recall", "confidence"})
"""Measured in an extractor's features of generated images."""

PERCEPTUAL: frozenset[MetricName] = frozenset({"perceptual", "lpips"})
"""Measured between generated images, two of one class, and the data set's nearest ones."""

_DECIDING_FIGURES = ("fid-", "kid-", BITS_PER_DIMENSION)
"""How the figures' names of DECIDING begin, in the same order."""

_HIGHER_IS_BETTER = ("precision-", "recall-", "confidence-", "perceptual-", "lpips-")


def higher_is_better(metric: str) -> bool:
    """Whether of two figures of that name the larger one is the better one.

    Of the distance to the nearest training image it is the one that copies less.
    """
    return metric.startswith(_HIGHER_IS_BETTER)


def decision_order(metric: str) -> tuple[int, str]:
    """Sorts figures' names: those that decide which checkpoint is the best, in their order, then the alphabet's."""
    ranks = [rank for rank, start in enumerate(_DECIDING_FIGURES) if metric.startswith(start)]
    return min(ranks, default=len(_DECIDING_FIGURES)), metric
