"""Says how far repeated measurements lie apart."""

import statistics
from collections.abc import Sequence


def with_spread(values: Sequence[float], digits: int) -> str:
    """Return the median, with the lowest and the highest value."""
    low, middle, high = (f"{one:.{digits}f}" for one in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"
