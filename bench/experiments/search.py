"""The search for the shipped recipe: one change at a time on a short run, then sizes at about the same cost."""

from typing import Any

from bench.experiments.ablations import BASE
from bench.experiments.cell import Cell, Judging

EXPERIMENT = "search"
IMAGES = 150_000
JUDGING = Judging("unguided", {}, images=5000)
ADAMW = {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-3}
UNIFORM = {"objective.times": {"name": "uniform"}}
LEADS: dict[str, dict[str, Any]] = {
    "adamw-uniform": ADAMW | UNIFORM,
    "muon-uniform": UNIFORM,
    "muon-laplace-0-1": {"objective.times": {"name": "laplace", "mean": 0.0, "scale": 1.0}},
    "muon-normal-0.5-2": {},
    "muon-normal-0-1.6": {"objective.times": {"name": "normal", "mean": 0.0, "scale": 1.6}},
    "muon-normal-1-2": {"objective.times": {"name": "normal", "mean": 1.0, "scale": 2.0}},
    "rate-4e-3": {"optimizer.learning_rate": 4e-3},
    "batch-32": {"training.batch_size": 32},
    "bfloat16": {"training.precision": "bfloat16"},
    "attention-14-and-7": {"model.unet.attention_resolutions": [14, 7]},
    "width-24-240k-images": {
        "model.unet.width": 24,
        "model.unet.attention_head_channels": 24,
        "training.total_images": 240_000,
    },
    "width-48-72k-images": {"model.unet.width": 48, "training.total_images": 72_000},
}


def cells() -> list[Cell]:
    """Return the cells, with one seed each. `ablations` repeats the decisive comparisons with three seeds."""
    return [
        Cell(EXPERIMENT, name, BASE, {"training.total_images": IMAGES, **overrides}, 1, [JUDGING])
        for name, overrides in LEADS.items()
    ]
