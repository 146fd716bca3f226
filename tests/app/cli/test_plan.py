"""Laws of `darkroom plan` and `darkroom train FOLDER --minutes N`: a folder of pictures and a time are enough."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from darkroom.app.cli import train
from darkroom.app.cli.main import cli
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import load_recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Class folders with pictures of several sizes, and a machine that trains 100 images a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "measured_speed", lambda *_, **__: lambda recipe: 100.0)
    draw = np.random.default_rng(0)
    for number in range(8):
        place = tmp_path / "Pets" / ("cats", "dogs")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "Pets"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_the_plan_shows_each_choice_and_its_reason(folder: Path) -> None:
    result = run("plan", folder, "--minutes", 45)
    assert result.exit_code == 0, result.output
    for text in ("model.image_size", "22", "training.total_images", "229500", "each image is seen", "few pictures"):
        assert text in result.output, text
    assert not Path("runs").exists()


def test_a_folder_and_a_time_train_a_model_and_the_same_command_continues(folder: Path) -> None:
    command = ("train", folder, "--minutes", 0.03)  # 153 images
    result = run(*command)
    assert result.exit_code == 0, result.output
    weights = [file for file in Path("runs/pets").rglob("*.safetensors") if file.name != "state.safetensors"]
    assert {load_checkpoint(file).header.class_names for file in weights} == {("cats", "dogs")}
    plan = Path("runs/pets/recipe.yaml").read_text()
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert "Continuing the run of 153 images" in again.output
    assert Path("runs/pets/recipe.yaml").read_text() == plan


def test_damaged_pictures_are_left_out_when_asked(folder: Path) -> None:
    (folder / "cats" / "0.png").write_bytes(b"no picture")
    refused = run("train", folder, "--minutes", 0.03)
    assert (refused.exit_code, "skip_damaged" in refused.output) == (2, True)
    result = run("train", folder, "--minutes", 0.03, "--skip-damaged", "--fit", "pad", "--ground", "#808080")
    assert result.exit_code == 0, result.output
    dataset = load_recipe(Path("runs/pets/recipe.yaml")).dataset
    assert (dataset.skip_damaged, dataset.fit, dataset.ground) == (True, "pad", "#808080")
    assert "7 images, 2 classes" in result.output


def test_what_does_not_go_together_is_refused_in_one_line(folder: Path) -> None:
    for arguments, text in (
        (("train", folder), "say how long to train"),
        (("train", "recipes/digits.yaml", "--minutes", "5"), "--minutes needs one"),
        (("train", "recipes/digits.yaml", "--skip-damaged"), "set them in the section dataset"),
        (("train", folder, "--minutes", "-5"), "minutes is -5"),
        (("plan", folder / "none", "--minutes", "5"), "no such file or folder"),
        (("train", "digits", "--device", "cuda:99"), "--device cuda:99 cannot be used"),  # a shipped recipe is found
        (("train", "digit"), "there is no recipe 'digit': name a shipped one"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert text in result.output, result.output
