"""Laws of preparing a plan: any folder of pictures becomes a data set of a side that a recipe fits."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from darkroom.model.config import Recipe, load_recipe
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.planning.plan import PlanError
from darkroom.model.planning.prepare import plan_name, prepare, read_plan, write_plan


def slow(recipe: Recipe) -> float:
    return 100.0


def pictures(folder: Path, sizes: list[tuple[int, int]], mode: str = "RGB", classes: int = 2) -> Path:
    draw = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        place = folder / f"class {number % classes}"
        place.mkdir(parents=True, exist_ok=True)
        shape = (height, width) if mode == "L" else (height, width, 3)
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{number}.png")
    return folder


def test_pictures_of_mixed_sizes_need_no_setting(tmp_path: Path) -> None:
    data = pictures(tmp_path / "My Photos!", [(150, 277), (300, 200), (64, 64), (41, 90)])
    plan, dataset = prepare(data, 45.0, slow, tmp_path / "cache")
    assert plan.recipe.name == "my-photos"
    assert dataset.images.shape == (4, 3, 32, 32)
    assert plan.recipe.model.image_size == plan.recipe.dataset.image_size == 32


@pytest.mark.parametrize("side", [8, 17, 28, 31])
def test_small_pictures_keep_nearly_their_side(side: int, tmp_path: Path) -> None:
    plan, dataset = prepare(pictures(tmp_path / "small", [(side, side)] * 6, "L"), 45.0, slow, tmp_path / "cache")
    assert side - 3 <= dataset.images.shape[2] <= side
    assert plan.recipe.model.image_channels == 1


def test_a_plan_is_written_with_its_reasons_and_read_again(tmp_path: Path) -> None:
    data = pictures(tmp_path / "small", [(16, 16)] * 6)
    plan, _ = prepare(data, 45.0, slow, tmp_path / "cache")
    file = tmp_path / "runs" / "small" / "recipe.yaml"
    write_plan(plan, file)
    assert read_plan(file, data, 45.0) == load_recipe(file) == plan.recipe
    assert "# model.unet.width: " in file.read_text()
    assert yaml.safe_load(file.read_text())["name"] == "small"
    assert read_plan(file, data, 45.0, {"fit": "crop"}) == plan.recipe
    for others in ((tmp_path / "others", 45.0), (data, 240.0), (data, 45.0, {"fit": "pad"})):
        with pytest.raises(PlanError, match="choose another folder"):
            read_plan(file, *others)


@pytest.mark.parametrize("zipped", [False, True])
def test_all_damaged_pictures_are_named_before_the_machine_is_measured(zipped: bool, tmp_path: Path) -> None:
    data = pictures(tmp_path / "some", [(64, 64 + number) for number in range(14)])
    files = sorted(data.rglob("*.png"))
    for file in files[:12]:
        file.write_bytes(b"no picture")
    if zipped:
        data = Path(shutil.make_archive(str(tmp_path / "some"), "zip", data))

    def unneeded(recipe: Recipe) -> float:
        raise AssertionError("the machine was measured for pictures that cannot be used")

    with pytest.raises(DatasetError) as raised:
        prepare(data, 45.0, unneeded, tmp_path / "cache")
    assert all(f"{file.parent.name}/{file.name}" in str(raised.value) for file in files[:12])


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        prepare(tmp_path / "gone", 45.0, slow, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Emoji", "emoji"),
        ("a b/.C d", "c-d"),
        ("Äpfel", "apfel"),
        ("ŻÓŁW", "zo-w-b5b6d123"),
        ("猫", "model-a810bf84"),
        ("犬", "model-1e82f9b0"),
        ("!!", "model-233d26e9"),
        ("x" * 99, "x" * 63),
    ],
)
def test_the_name_is_one_that_a_model_may_have(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir(parents=True)
    assert plan_name(tmp_path / name) == expected
