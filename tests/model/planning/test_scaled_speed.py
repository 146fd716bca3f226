"""Laws of scaled speeds: measured networks get their own speed, and others one that follows from their cost."""

import pytest
import torch

from darkroom.model.config import Recipe
from darkroom.model.planning.scaled_speed import Count, Rate, count, rate, references, scaled_speed
from tests.model.small import small_recipe, small_unet

CPU = torch.device("cpu")


def seconds(recipe: Recipe, operation: float, value: float, batch: float) -> float:
    """The time of an image on a machine with these costs."""
    counted = count(recipe)
    return counted.operations * operation + counted.values * value + batch / recipe.training.batch_size


@pytest.mark.parametrize("costs", [(1e-11, 1e-9, 0.1), (1e-11, 0.0, 0.0), (0.0, 1e-9, 0.5)], ids=str)
def test_a_machine_of_known_costs_is_found_again(costs: tuple[float, float, float]) -> None:
    measured = [one for one in references(CPU) if one.training.precision == "float32"]
    speed = scaled_speed([rate(one, 1.0 / seconds(one, *costs)) for one in measured])
    for recipe in (*measured, small_recipe(), small_recipe(training__batch_size=64, model__unet__width=48)):
        assert speed(recipe) == pytest.approx(1.0 / seconds(recipe, *costs), rel=1e-3)
    assert speed(small_recipe(training__precision="bfloat16")) == 0.0  # nobody has measured it
    assert speed(small_recipe(training__devices=2)) == pytest.approx(2.0 * speed(small_recipe()))


def test_no_measurement_makes_an_image_cost_less_than_nothing() -> None:
    measured = [
        Rate(precision="float32", operations=1e7, values=1e6, batch_size=128, images_per_second=100.0),
        Rate(precision="float32", operations=1e9, values=2e6, batch_size=128, images_per_second=150.0),  # not plausible
    ]
    speed = scaled_speed(measured)
    for width in (16, 32, 64):
        assert 0.0 < speed(small_recipe(model__unet__width=width)) < float("inf")


def test_a_convolution_is_counted_by_hand() -> None:
    unet = small_unet(width=8, multipliers=(1,), attention_resolutions=(), middle_attention=False, norm_groups=2)
    small, large = (count(small_recipe(model__unet=unet.model_dump(), model__image_size=side)) for side in (8, 16))
    assert isinstance(small, Count)
    # All but the embedding of time and class grows with the number of pixels.
    assert 3.9 * small.operations < large.operations < 4.0 * small.operations
    assert 3.5 * small.values < large.values < 4.0 * small.values
