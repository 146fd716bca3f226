"""Ways to guide: by the unconditional prediction, in an interval of noise levels, and by the model's snapshot."""

from typing import Any

from bench.experiments.cell import Cell, Judging
from bench.experiments.guidance import AGREEMENT_IMAGES, DRAWN, IMAGES, RECIPE, WEIGHTS

EXPERIMENT = "guides"
WAYS: dict[str, dict[str, Any]] = {
    "none": {"guidance": 1.0},
    **{f"plain-w{w:g}": {"guidance": w} for w in (1.5, 2.0)},
    **{
        f"interval-{low:g}-{high:g}-w{w:g}": {"guidance": w, "guidance_interval": (low, high)}
        for w in (2.0, 3.0)
        for low, high in ((0.2, 5.0), (0.5, 2.0))
    },
    **{f"snapshot-w{w:g}": {"guidance": w, "guide": "snapshot"} for w in (1.5, 2.0, 3.0)},
}
"""Intervals in sigma/alpha. Outside them a step costs one network row instead of two."""


def cells() -> list[Cell]:
    """Return one cell with a judging for each way."""
    ways = [
        Judging(name, {**DRAWN, **settings}, IMAGES, agreement_images=AGREEMENT_IMAGES)
        for name, settings in WAYS.items()
    ]
    return [Cell(EXPERIMENT, "ways", RECIPE, {}, 1, ways, WEIGHTS)]
