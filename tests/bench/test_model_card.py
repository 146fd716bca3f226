"""Laws of the model card: its figures come from the run, and a run, judge or data set that does not fit is refused."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from bench.classifier import train_classifier
from bench.model_card import CardError, main, training_log
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import Recipe, load_recipe
from darkroom.model.datasets import load_dataset
from tests.bench.halves import halves_recipe, untrained_weights, write_idx

ROOT = Path(__file__).parents[2]
LOG = "images_seen,loss,gradient_norm,learning_rate,images_per_second\n"


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Return the arguments for the run of an untrained network on a small data set, with its judge."""
    data, cache, run = tmp_path / "data", tmp_path / "cache", tmp_path / "run"
    data.mkdir()
    run.mkdir()
    write_idx(data, "train", 1280, 0)
    write_idx(data, "t10k", 60, 1)
    recipe = halves_recipe(data)
    train = load_dataset(recipe.dataset, cache)
    test = load_dataset(recipe.dataset.model_copy(update={"split": "test"}), cache)
    train_classifier(train, test, epochs=1, seed=0).save(tmp_path / "judge.safetensors")
    (tmp_path / "w.safetensors").write_bytes(untrained_weights(recipe, train))
    (run / "losses.csv").write_text(LOG + "1800,0.5,1,1e-3,1\n3600,0.25,1,1e-3,0.5\n5400,0.2,1,1e-3,1\n")
    paths = ["--judge", str(tmp_path / "judge.safetensors"), "--cache", str(cache), "--out", str(tmp_path / "out")]
    return [str(run / "losses.csv"), str(tmp_path / "w.safetensors"), *paths, "--images-per-class", "6"]


def test_everything_in_the_card_is_of_this_run(arguments: list[str], tmp_path: Path) -> None:
    assert main(arguments) == 0
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    pictures = {f"halves-{kind}.png" for kind in ("grid", "loss", "nearest")}
    assert names == pictures | {"halves.md", "halves.safetensors", "halves-losses.csv"}
    weights, text = (out / "halves.safetensors").read_bytes(), (out / "halves.md").read_text()
    assert weights == (tmp_path / "w.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in text
    assert "3,600 of the recipe's 4,000" in text
    # 1,800 images at 1 per second and 1,800 at 0.5; the line after the checkpoint is not included
    assert "1.50 hours by the clock, 1 process in float32" in text
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    assert Recipe.model_validate(yaml.safe_load(block[1])) == halves_recipe(tmp_path / "data")
    assert "| class | guidance 1 | guidance 2.5 | real test images |" in text
    assert "| images | 12 | 12 | 60 |" in text
    assert re.search(r"^\| all \| [0-9.]+% \| [0-9.]+% \| [0-9.]+% \|$", text, re.MULTILINE)
    assert set(re.findall(r"\]\((halves-\w+\.png)\)", text)) == pictures
    assert Image.open(out / "halves-nearest.png").size == (2 * (10 * 10 + 2), 2 * (2 * 10 + 2))


def test_defaults_chosen_after_the_training_are_shipped_and_drawn_with(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--sampling", "guidance=1.5", "--sampling", "sampler=dpmpp_2m"]) == 0
    shipped = load_checkpoint(tmp_path / "out" / "halves.safetensors")
    trained = load_checkpoint(tmp_path / "w.safetensors")
    assert shipped.header.sampling == trained.header.sampling.model_copy(
        update={"guidance": 1.5, "sampler": "dpmpp_2m"}
    )
    assert all(torch.equal(value, trained.weights[name]) for name, value in shipped.weights.items())
    text = (tmp_path / "out" / "halves.md").read_text()
    assert "| class | guidance 1 | guidance 1.5 | real test images |" in text


def test_the_card_is_made_again_of_what_is_shipped(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--sampling", "guidance=1.5"]) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    command = first["halves.md"].decode().split("\npython -m bench.model_card ")[1].splitlines()[0]
    assert command == "out/halves-losses.csv out/halves.safetensors --out out --images-per-class 6"
    judge = arguments[arguments.index("--judge") : arguments.index("--out")]
    assert main([*command.split(), *judge]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def test_a_default_that_is_none_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--sampling", "sampler=euler"]) == 2
    assert "sampler" in capsys.readouterr().err


def test_the_same_inputs_give_the_same_bytes(arguments: list[str], tmp_path: Path) -> None:
    assert main(arguments) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert main(arguments) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def test_refuses_a_data_set_that_the_model_did_not_see(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_idx(tmp_path / "data", "train", 1282, 4)
    assert main(arguments) == 2
    assert "was trained on sha256:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_refuses_the_log_of_a_shorter_run() -> None:
    losses = LOG + "1000,0.5,1,1e-3,10\n2000,0.4,1,1e-3,10\n"
    assert training_log(losses, 2500, source="losses.csv").hours == pytest.approx(200 / 3600)
    with pytest.raises(CardError, match=r"losses\.csv: ends before"):
        training_log(losses, 3500, source="losses.csv")


def _leaves(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_readme_card_and_recipe_tell_of_the_shipped_weights_what_the_file_does() -> None:
    weights, recipe = load_checkpoint(ROOT / "weights" / "fashion-mnist.safetensors"), "recipes/fashion-mnist.yaml"
    shipped, told = load_recipe(ROOT / recipe), weights.header.recipe
    assert told is not None
    used, given = _leaves(told.model_dump(mode="json")), _leaves(shipped.model_dump(mode="json"))
    differing = {name for name, value in used.items() if name != "training.compile" and given[name] != value}
    assert differing == {  # the recipe's comment names the first two; the others were chosen after the training
        "training.devices",
        "training.precision",
        "sampling.guidance",
        "sampling.guidance_interval",
    }
    assert weights.header.sampling == shipped.sampling
    assert weights.header.images_seen == shipped.training.total_images
    assert (told.training.devices, told.training.precision) == (2, "bfloat16")

    log = training_log((ROOT / "weights" / "fashion-mnist-losses.csv").read_text(), 1_280_000, source="losses")
    minutes = f"{60.0 * log.hours:.0f} minutes"
    card = (ROOT / "weights" / "fashion-mnist.md").read_text()
    assert f"| time spent training | {log.hours:.2f} hours by the clock, 2 processes in bfloat16 |" in card
    assert f"| images seen in training | {weights.header.images_seen:,} of the recipe's" in card
    assert weights.digest.removeprefix("sha256:") in card
    readme = (ROOT / "README.md").read_text()
    assert f"Two CPU cores trained\n[fashion-mnist](weights/fashion-mnist.md) in {minutes}" in readme
    second = training_log((ROOT / "weights" / "emoji-losses.csv").read_text(), 1_050_000, source="losses")
    assert f"one core trained [emoji](weights/emoji.md) in {second.hours:.2f} hours" in readme
    comment = f"`devices: 2` and `precision: bfloat16`: {minutes} on two CPU cores"
    assert comment in (ROOT / recipe).read_text()
