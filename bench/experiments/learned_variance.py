"""Learned variance for DDPM's sampler at few steps (Nichol & Dhariwal 2021, figure 8), three seeds."""

from typing import Any

from bench.experiments.ablations import BASE, SEEDS
from bench.experiments.cell import Cell, Judging

EXPERIMENT = "learned-variance"
STEPS = (10, 25, 50)
IMAGES = 500
TRAININGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "fixed": ({}, ("beta_tilde", "beta")),
    "learned": ({"model.unet.learned_variance": True}, ("beta_tilde", "learned")),
}
"""The changes to each training's recipe, and the variances to sample its weights with."""


def judging_name(variance: str, steps: int) -> str:
    """Return the name of one way to sample."""
    return f"{variance}-{steps}"


def cells() -> list[Cell]:
    """Return all cells, ordered by seed. The fixed ones share their training with the ablations' base."""
    return [
        Cell(
            EXPERIMENT,
            name,
            BASE,
            overrides,
            seed,
            [
                Judging(
                    judging_name(variance, steps),
                    {"sampler": "ddpm", "steps": steps, "variance": variance, "threshold": "static"},
                    IMAGES,
                    metrics=("fid",),
                )
                for variance in variances
                for steps in STEPS
            ],
        )
        for seed in SEEDS
        for name, (overrides, variances) in TRAININGS.items()
    ]
