"""The paper's table 1 as a sweep: depth, dropout and learning rate, on 32x32 Fashion-MNIST, three seeds a cell."""

from itertools import product
from pathlib import Path

from bench.experiments import ablations
from bench.experiments.cell import Cell, Judging

EXPERIMENT = "table1"
BASE = Path(__file__).with_name("paper_small.yaml")
DEPTHS = {3: (1, 2, 4), 4: (1, 2, 4, 4)}
DROPOUTS = (0.0, 0.1)
LEARNING_RATES = (3e-4, 1e-3)
SEEDS = (1, 2, 3)
DYNAMIC = Judging("unguided", {}, images=2000)
STATIC = Judging("static", ablations.DRAWN, images=2000)
"""Thresholding as in the paper, and static thresholding, which suits images with a black background."""


def cell_name(depth: int, dropout: float, rate: float) -> str:
    """Return the name of a cell."""
    return f"depth{depth}-dropout{dropout:g}-rate{rate:g}"


def cells() -> list[Cell]:
    """Return all cells, ordered by seed, so that an interrupted sweep has complete tables of fewer seeds."""
    return [
        Cell(
            EXPERIMENT,
            cell_name(depth, dropout, rate),
            BASE,
            {
                "model.unet.multipliers": DEPTHS[depth],
                "model.unet.dropout": dropout,
                "optimizer.learning_rate": rate,
            },
            seed,
            [DYNAMIC, STATIC],
        )
        for seed, depth, dropout, rate in product(SEEDS, DEPTHS, DROPOUTS, LEARNING_RATES)
    ]
