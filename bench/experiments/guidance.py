"""Guidance and thresholding on the shipped model: w from 0 to 6, and the percentile against w."""

from pathlib import Path

from bench.experiments.cell import Cell, Judging

EXPERIMENT = "guidance"
WEIGHTS = Path("weights/fashion-mnist.safetensors")
RECIPE = Path("recipes/fashion-mnist.yaml")
DRAWN = {"sampler": "unipc_3", "steps": 10, "spacing": "edm_coarse", "threshold": "none", "guidance_interval": None}
"""The shipped model's defaults, which the frontier and the table of thresholds chose, but guided at every step."""
IMAGES = 1000
AGREEMENT_IMAGES = 100
GUIDANCES = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0)
THRESHOLDS: dict[str, dict[str, str | float]] = {
    "none": {"threshold": "none"},
    "static": {"threshold": "static"},
    "dynamic-0.95": {"threshold": "dynamic", "percentile": 0.95},
    "dynamic-0.99": {"threshold": "dynamic", "percentile": 0.99},
    "dynamic-0.995": {"threshold": "dynamic", "percentile": 0.995},
}
THRESHOLD_GUIDANCES = (1.0, 2.0, 6.0)


def cells() -> list[Cell]:
    """Return two cells, one for each table."""
    weights = [
        Judging(f"w{w:g}", {**DRAWN, "guidance": w}, IMAGES, agreement_images=AGREEMENT_IMAGES if w else 0)
        for w in GUIDANCES
    ]
    thresholds = [
        Judging(f"{name}-w{w:g}", {**DRAWN, **settings, "guidance": w}, IMAGES)
        for name, settings in THRESHOLDS.items()
        for w in THRESHOLD_GUIDANCES
    ]
    return [
        Cell(EXPERIMENT, "weight", RECIPE, {}, 1, weights, WEIGHTS),
        Cell(EXPERIMENT, "threshold", RECIPE, {}, 1, thresholds, WEIGHTS),
    ]
