"""Laws of planning: for every data set there is a recipe that runs, and it follows from data, speed and time."""

import re
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from darkroom.model.config import DatasetConfig, Recipe, parse_recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.network import build_network
from darkroom.model.planning.cautions import cautions
from darkroom.model.planning.data_facts import FEWEST_TO_MIRROR, DataFacts, look_at
from darkroom.model.planning.plan import PlanError, make_plan, model_side, parameters
from darkroom.model.training.recipe_fit import ImageFacts, recipe_misfits

FOLDER = DatasetConfig(format="folder")


def speed(recipe: Recipe) -> float:
    """A machine of 1e8 parameters times cells a second."""
    cells = (recipe.model.image_size / recipe.model.unet.patch_size) ** 2
    return 4e10 / (parameters(recipe) * cells)


def facts(side: int = 32, channels: int = 3, classes: int = 10, images: int = 5000, **others: Any) -> DataFacts:
    each, more = divmod(images, classes)
    names, counts = tuple(f"class {n}" for n in range(classes)), tuple(each + (n < more) for n in range(classes))
    known = {"mirrors": (False,) * classes, "flat_grounds": 0.0}
    return DataFacts(channels, side, names, counts, images, **(known | others))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", range(8, 97))
def test_there_is_a_recipe_that_fits_for_every_side(side: int, channels: int) -> None:
    recipe = make_plan(facts(side, channels), FOLDER, "some", 45.0, speed).recipe
    assert (recipe.model.image_size, recipe.model.image_channels) == (side, channels)
    assert list(recipe_misfits(recipe, ImageFacts(channels, side, (500,) * 10, facts().class_names))) == []


@pytest.mark.parametrize("images_per_second", [1.0, 8.0, 60.0])
def test_nothing_happens_more_often_than_a_batch(images_per_second: float) -> None:
    minutes = 33.0 / (0.85 * 60.0 * images_per_second)
    for one in (minutes, 20.0 * minutes):
        training = make_plan(facts(), FOLDER, "some", one, lambda recipe: images_per_second).recipe.training
        assert min(training.checkpoint_every_images, training.sample_every_images) >= training.batch_size


@pytest.mark.parametrize(("classes", "samples"), [(1, 8), (10, 8), (27, 3), (100, 3), (101, 1), (1000, 1)])
def test_up_to_a_hundred_classes_have_enough_pictures_in_a_grid_to_be_judged(classes: int, samples: int) -> None:
    plan = make_plan(facts(classes=classes), FOLDER, "some", 45.0, speed)
    assert plan.recipe.training.samples_per_class == samples


@pytest.mark.parametrize("minutes", [1.0, 45.0, 600.0])
@pytest.mark.parametrize(("classes", "images"), [(1, 2), (2, 2), (2, 3), (10, 5000), (1000, 1000), (1000, 100_000)])
def test_there_is_a_recipe_that_fits_for_few_and_for_many(classes: int, images: int, minutes: float) -> None:
    data = facts(classes=classes, images=images)
    recipe = make_plan(data, FOLDER, "some", minutes, speed).recipe
    assert list(recipe_misfits(recipe, ImageFacts(3, 32, data.class_counts, data.class_names))) == []


def test_more_time_gives_a_longer_run_and_a_wider_network() -> None:
    plans = [make_plan(facts(), FOLDER, "some", minutes, speed) for minutes in (30.0, 300.0, 3000.0, 30_000.0)]
    widths = [plan.recipe.model.unet.width for plan in plans]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    for plan in plans:
        assert plan.recipe.training.total_images == int(plan.images_per_second * plan.minutes * 60 * 0.85)
        assert plan.passes == pytest.approx(plan.recipe.training.total_images / 5000)


def test_a_longer_run_gets_larger_batches_and_a_deeper_network() -> None:
    plans = [make_plan(facts(), FOLDER, "some", minutes, lambda recipe: 100.0) for minutes in (1.0, 30.0, 60.0, 600.0)]
    assert [plan.recipe.training.batch_size for plan in plans] == [32, 64, 128, 128]
    assert [plan.recipe.model.unet.blocks_per_level for plan in plans] == [1, 1, 2, 2]
    assert plans[0].recipe.optimizer.learning_rate == 2.0 * plans[2].recipe.optimizer.learning_rate


@pytest.mark.parametrize(("gain", "precision"), [(0.5, "float32"), (1.1, "float32"), (2.0, "bfloat16")])
def test_bfloat16_is_used_where_it_is_faster(gain: float, precision: str) -> None:
    def here(recipe: Recipe) -> float:
        return speed(recipe) * (gain if recipe.training.precision == "bfloat16" else 1.0)

    plan = make_plan(facts(), FOLDER, "some", 45.0, here)
    assert plan.recipe.training.precision == precision
    assert plan.images_per_second == here(plan.recipe)


def test_each_reason_is_the_recipes_own_value() -> None:
    plan = make_plan(facts(mirrors=(True,) * 10), FOLDER, "some", 45.0, speed)
    tree = plan.recipe.model_dump(mode="json")
    for reason in plan.reasons:
        value = tree
        for part in reason.field.split("."):
            value = value[part]
        wanted = reason.value
        if isinstance(wanted, dict):
            value = {name: value[name] for name in wanted}
        assert value == wanted, reason.field
    assert plan.recipe.training.horizontal_flip


ODD_WORDS = re.compile(r"(?<![\d.,])1 (classes|steps|images|pictures|minutes)\b|\b0\.00? times|\b(nan|inf|None)\b|[{}]")


@pytest.mark.parametrize("minutes", [0.5, 1.0, 45.0, 600.0])
@pytest.mark.parametrize(("classes", "images"), [(1, 2), (1, 100_000), (2, 2), (10, 5000), (1000, 1000)])
def test_each_reason_is_in_plain_words(classes: int, images: int, minutes: float) -> None:
    for side, channels, mirrors in product((8, 16, 17, 28, 32, 53, 64, 96), (1, 3), (True, False)):
        known = {"mirrors": (mirrors,) * classes, "flat_grounds": float(channels == 1)}
        plan = make_plan(facts(side, channels, classes, images, **known), FOLDER, "some", minutes, lambda recipe: 300.0)
        words = [plan.expectation(), *cautions(plan), *(one.why for one in plan.reasons)]
        assert [one for one in words if not one or ODD_WORDS.search(one)] == []
        why = {one.field: one.why for one in plan.reasons}
        assert len(why) == len(plan.reasons)
        assert ("in colour" if channels == 3 else "are grey") in why["model.image_channels"]
        levels = len(plan.recipe.model.unet.multipliers)
        assert (levels == 1) == ("cannot be halved" in why["model.unet.multipliers"])
        assert side // plan.recipe.model.unet.patch_size % 2 == (levels == 1)
        assert ("nobody can tell" in why["training.horizontal_flip"]) == (not mirrors and images // classes < 20)


@pytest.mark.parametrize(
    ("grounds", "classes", "threshold", "why"),
    [
        (0.93, 10, "static", "93% of the pictures lie on a flat ground"),
        (0.5, 2, "static", "50% of the pictures lie on a flat ground"),
        (0.08, 10, "none", "8% of the pictures lie on a flat ground: too few"),
        (None, 10, "none", "before Darkroom looked at the grounds"),
        (0.93, 1, "none", "without guidance"),
    ],
)
def test_guided_pictures_on_flat_grounds_get_static_thresholding(
    grounds: float | None, classes: int, threshold: str, why: str
) -> None:
    plan = make_plan(facts(classes=classes, flat_grounds=grounds), FOLDER, "some", 45.0, speed)
    assert plan.recipe.sampling.threshold == threshold
    (reason,) = (one for one in plan.reasons if one.field == "sampling.threshold")
    assert why in reason.why
    assert plan.recipe.sampling.spacing == "edm_coarse"  # the section's other fields stay


def test_a_speed_that_nobody_measured_is_no_reason() -> None:
    plan = make_plan(facts(), FOLDER, "some", 45.0, lambda recipe: 300.0 * (recipe.training.precision == "float32"))
    (reason,) = (one for one in plan.reasons if one.field == "training.precision")
    assert (reason.value, reason.why) == ("float32", "nobody has measured bfloat16 here")


def test_the_plan_says_how_long_the_run_is() -> None:
    plan = make_plan(facts(images=1000), FOLDER, "some", 10.0, lambda recipe: 100.0)
    assert "51,000 images in 10 minutes, at 100 images/s; each image is seen 51.0 times" in plan.expectation()


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_time_that_is_none_is_refused(minutes: float) -> None:
    with pytest.raises(PlanError, match="minutes"):
        make_plan(facts(), FOLDER, "some", minutes, speed)


def test_one_image_is_refused() -> None:
    with pytest.raises(PlanError, match="2 or more"):
        make_plan(facts(classes=1, images=1), FOLDER, "some", 45.0, speed)


@pytest.mark.parametrize(
    ("longest", "minutes", "side"),
    [(1, 45.0, 4), (8, 45.0, 8), (29, 45.0, 28), (29, 0.1, 16), (500, 1.0, 16), (500, 10.0, 32), (500, 1e5, 96)],
)
def test_pictures_are_scaled_to_a_side_that_the_time_bears(longest: int, minutes: float, side: int) -> None:
    assert model_side(longest, minutes, speed, channels=3) == side


def test_the_estimate_of_parameters_is_near_the_networks() -> None:
    for side in (8, 32, 64):
        recipe = make_plan(facts(side), FOLDER, "some", 45.0, speed).recipe
        network = build_network(recipe.model, 10, 1000)
        assert parameters(recipe) == pytest.approx(sum(p.numel() for p in network.parameters()), rel=0.35)


def dataset(images: np.ndarray, labels: np.ndarray) -> ImageDataset:
    return ImageDataset(images, labels, tuple(str(n) for n in range(labels.max() + 1)), "sha256:none")


def test_repeats_are_counted_once() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)
    found = look_at(dataset(np.concatenate([images, images]), np.arange(20) % 2))
    assert (found.images, found.distinct, found.side, found.channels) == (20, 10, 8, 1)


def test_pictures_with_a_direction_are_not_mirrored_and_others_are() -> None:
    draw = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 16)[None, None, None, :] * np.ones((900, 1, 16, 1))
    labels = np.arange(900) % 3
    towards = np.where(draw.random((900, 1, 1, 1)) < 0.5, ramp, ramp[..., ::-1])
    noise = draw.integers(0, 50, (900, 1, 16, 16))
    assert look_at(dataset((ramp + noise).astype(np.uint8), labels)).mirrors == (False,) * 3
    assert look_at(dataset((towards + noise).astype(np.uint8), labels)).mirrors == (True,) * 3


def drawn(*shapes: str, each: int = 60) -> ImageDataset:
    """Draw letters, discs and squares of several sizes near the middle, in white on black; a class each."""
    draw, images = np.random.default_rng(0), []
    for shape, _ in product(shapes, range(each)):
        picture = Image.new("L", (24, 24))
        pen, size = ImageDraw.Draw(picture), int(draw.integers(8, 16))
        x, y = (23 - size) / 2 + draw.integers(-3, 4, 2)
        if shape == "disc":
            pen.ellipse((x, y, x + size, y + size), fill=255)
        elif shape == "square":
            pen.rectangle((x, y, x + size, y + size), fill=255)
        else:
            pen.text((x, y), shape, fill=255, font=ImageFont.load_default(float(size)))
        images.append(np.asarray(picture)[None])
    return ImageDataset(np.stack(images), np.arange(len(images)) // each, shapes, "sha256:none")


def test_letters_among_shapes_are_not_mirrored_and_the_shapes_are() -> None:
    found = look_at(drawn("disc", "F", "square", "R", "L"))
    assert found.mirrors == (True, False, True, False, False)
    plan = make_plan(found, FOLDER, "some", 45.0, speed)
    (reason,) = (one for one in plan.reasons if one.field == "training.horizontal_flip")
    assert plan.recipe.training.horizontal_flip == ("disc", "square")
    assert reason.why == "mirrored pictures do not look like others of their class in F, R, L"
    assert list(recipe_misfits(plan.recipe, ImageFacts(1, 24, found.class_counts, found.class_names))) == []
    assert parse_recipe(plan.recipe.model_dump(mode="json"), source="stored") == plan.recipe


def test_letters_within_a_class_of_shapes_keep_it_from_being_mirrored() -> None:
    separate = drawn("disc", "square", "F", each=40)
    mixed = look_at(dataset(separate.images, np.zeros(120, dtype=np.int64)))
    assert mixed.mirrors == (False,)


@pytest.mark.parametrize(("each", "mirrors"), [(FEWEST_TO_MIRROR - 1, False), (FEWEST_TO_MIRROR, True)])
def test_classes_of_few_pictures_are_not_mirrored(each: int, mirrors: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (each, 1, 8, 8), dtype=np.uint8)
    twice = dataset(np.concatenate([images, images]), np.zeros(2 * each, dtype=np.int64))
    assert look_at(twice).mirrors == (mirrors,)  # repeats do not count


@pytest.mark.parametrize(
    ("mirrors", "counts", "flip", "why"),
    [
        (None, (50, 50, 50), False, "was registered before"),
        ((True, True, True), (50, 50, 50), True, "look like others of their class"),
        ((True, False, True), (50, 0, 50), True, "look like others of their class"),
        ((True, False, False), (50, 50, 5), ("a",), "class in b; with fewer than 20 pictures nobody can tell for c"),
        ((False, False, False), (50, 50, 50), False, "do not look like others of their class in a, b, c"),
        ((False, False, False), (5, 5, 5), False, "with fewer than 20 pictures nobody can tell for a, b, c"),
    ],
)
def test_the_plan_says_which_classes_are_mirrored_and_why(
    mirrors: tuple[bool, ...] | None, counts: tuple[int, ...], flip: bool | tuple[str, ...], why: str
) -> None:
    data = DataFacts(1, 16, ("a", "b", "c"), counts, sum(counts), mirrors, None)
    plan = make_plan(data, FOLDER, "some", 45.0, speed)
    assert plan.recipe.training.horizontal_flip == flip
    (reason,) = (one for one in plan.reasons if one.field == "training.horizontal_flip")
    assert why in reason.why
