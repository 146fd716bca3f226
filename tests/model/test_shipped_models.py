"""Laws of the weights that the repository ships."""

from pathlib import Path

import numpy as np
import pytest

from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import load_recipe
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample

WEIGHTS = sorted(Path("weights").glob("*.safetensors"))


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_a_shipped_model_has_its_recipe_and_card_and_draws_its_classes(path: Path) -> None:
    assert path.stat().st_size <= 12_000_000
    checkpoint = load_checkpoint(path)
    header, recipe = checkpoint.header, load_recipe(Path("recipes") / f"{path.stem}.yaml")
    assert header.name == recipe.name == path.stem
    assert header.recipe is not None
    assert (header.model, header.recipe.model, header.recipe.dataset) == (recipe.model, recipe.model, recipe.dataset)
    assert header.images_seen == recipe.training.total_images
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert checkpoint.digest.removeprefix("sha256:") in card
    assert all(name in card for name in header.class_names)
    denoiser = checkpoint.denoiser()
    labels = (0, len(header.class_names) - 1)
    one, other = to_pixels(
        sample(denoiser, [plan_row(denoiser, header.sampling, label=label, seed=1) for label in labels])
    )
    assert one.shape == (header.model.image_size, header.model.image_size, header.model.image_channels)
    assert np.ptp(one) > 100, "neither flat nor grey"
    assert not np.array_equal(one, other)


def test_both_models_are_shipped() -> None:
    assert [path.stem for path in WEIGHTS] == ["emoji", "fashion-mnist"]
