"""Names of figures: which are better when higher, and which decide. `extension_points.py` has the metrics."""

from darkroom.model.extension_points import METRICS

DECIDING: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.decides)
"""The first of these metrics that a run measures decides which checkpoint is the best. Lower is better for all."""

BITS_PER_DIMENSION = "bits-per-dimension"

_HIGHER_IS_BETTER = tuple(start for metric in METRICS.values() if metric.higher_is_better for start in metric.figures)


def higher_is_better(metric: str) -> bool:
    """Return True when a larger figure of that name is better."""
    return metric.startswith(_HIGHER_IS_BETTER)


def decision_order(metric: str) -> tuple[int, str]:
    """Sort key for figures' names: metrics in the order of `DECIDING`, then the others alphabetically."""
    ranks = [rank for rank, name in enumerate(DECIDING) if metric.startswith(METRICS[name].figures)]
    return min(ranks, default=len(DECIDING)), metric
