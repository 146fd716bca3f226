"""What each part buys: a short Fashion-MNIST run with one part removed or changed at a time, three seeds."""

from pathlib import Path
from typing import Any

from bench.experiments.cell import Cell, Judging

EXPERIMENT = "ablations"
BASE = Path(__file__).with_name("fashion_mnist_short.yaml")
SEEDS = (1, 2, 3)
UNGUIDED = Judging("unguided", {}, images=2000)
RAW = Judging("no-ema", {}, images=2000, raw=True)
REMOVED: dict[str, dict[str, Any]] = {
    "base": {},
    "adamw": {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-3},
    "uniform-times": {"objective.times": {"name": "uniform"}},
    "eps-prediction": {"model.prediction": "eps"},
    "linear-schedule": {"model.schedule.name": "linear"},
    "no-attention": {"model.unet.attention_resolutions": [], "model.unet.middle_attention": False},
    "residual-rescale": {"model.unet.residual_scale": 0.5**0.5},
}


def cells() -> list[Cell]:
    """A seed after the other. The base also judges the weights without their moving average."""
    return [
        Cell(EXPERIMENT, name, BASE, overrides, seed, [UNGUIDED, RAW] if name == "base" else [UNGUIDED])
        for seed in SEEDS
        for name, overrides in REMOVED.items()
    ]
