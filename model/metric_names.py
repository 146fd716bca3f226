"""Which metrics' figures are better when higher, and which decide. `extension_points.py` has the metrics."""

from darkroom.model.extension_points import METRICS

DECIDING: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.decides)
"""The first of these that was measured decides which checkpoint of a run is the best; of each, less is better."""

BITS_PER_DIMENSION = "bits-per-dimension"

_HIGHER_IS_BETTER = tuple(start for metric in METRICS.values() if metric.higher_is_better for start in metric.figures)


def higher_is_better(metric: str) -> bool:
    """Whether of two figures of that name the larger one is the better one."""
    return metric.startswith(_HIGHER_IS_BETTER)


def decision_order(metric: str) -> tuple[int, str]:
    """Sorts figures' names: those that decide which checkpoint is the best, in their order, then the alphabet's."""
    ranks = [rank for rank, name in enumerate(DECIDING) if metric.startswith(METRICS[name].figures)]
    return min(ranks, default=len(DECIDING)), metric
