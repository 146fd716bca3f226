"""Ablations: a short Fashion-MNIST run with one part removed or changed at a time, three seeds."""

from pathlib import Path
from typing import Any

from bench.experiments import guidance
from bench.experiments.cell import Cell, Judging

EXPERIMENT = "ablations"
BASE = Path(__file__).with_name("fashion_mnist_short.yaml")
SEEDS = (1, 2, 3)
DRAWN = {**guidance.DRAWN, "threshold": "static"}
"""Static, because eps-prediction needs a threshold at high noise, and the runs that predict v lose little by it."""
UNGUIDED = Judging("unguided", DRAWN, images=2000)
RAW = Judging("no-ema", DRAWN, images=2000, raw=True)
THRESHOLDED = Judging("dynamic-threshold", {**DRAWN, "threshold": "dynamic"}, images=2000)
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
    """Return all cells, ordered by seed. The base is also judged without EMA, and with dynamic thresholding."""
    return [
        Cell(EXPERIMENT, name, BASE, overrides, seed, [UNGUIDED, RAW, THRESHOLDED] if name == "base" else [UNGUIDED])
        for seed in SEEDS
        for name, overrides in REMOVED.items()
    ]
