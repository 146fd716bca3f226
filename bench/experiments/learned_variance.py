"""What learned variance buys DDPM's sampler at few steps (Nichol & Dhariwal 2021, figure 8), three seeds."""

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
"""What differs in training, and the variances that its weights are sampled with."""


def judging_name(variance: str, steps: int) -> str:
    """What one way of sampling is called."""
    return f"{variance}-{steps}"


def cells() -> list[Cell]:
    """A seed after the other; the fixed ones share their training with the ablations' base."""
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
