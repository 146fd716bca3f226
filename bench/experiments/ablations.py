"""What each improvement buys: the short Fashion-MNIST run, with one thing removed or changed at a time, three seeds."""

from pathlib import Path

from bench.experiments.cell import Cell, Judging

EXPERIMENT = "ablations"
BASE = Path("recipes/fashion-mnist.yaml")
TOTAL_IMAGES = 100_000
SEEDS = (1, 2, 3)
UNGUIDED = Judging("unguided", {"sampler": "dpmpp_2m", "steps": 10, "guidance": 1.0}, images=5000)
RAW = Judging("no-ema", UNGUIDED.sampling, images=5000, raw=True)
REMOVED = {
    "base": {},
    "linear-schedule": {"model.schedule.name": "linear"},
    "no-attention": {"model.unet.attention_resolutions": [], "model.unet.middle_attention": False},
    "residual-rescale": {"model.unet.residual_scale": 0.5**0.5},
    "eps-prediction": {"model.prediction": "eps"},
}


def cells() -> list[Cell]:
    """A seed after the other. The base also judges the weights without their moving average."""
    return [
        Cell(
            EXPERIMENT,
            name,
            BASE,
            {"training.total_images": TOTAL_IMAGES, "ema.decay": 0.995, **overrides},
            seed,
            [UNGUIDED, RAW] if name == "base" else [UNGUIDED],
        )
        for seed in SEEDS
        for name, overrides in REMOVED.items()
    ]
