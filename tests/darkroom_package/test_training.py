"""Laws of `darkroom.train` and `darkroom.evaluate`: the runs and figures of the commands, from any form of the data."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import TensorDataset

import darkroom
from darkroom.model.checkpoint import CheckpointError
from darkroom.model.config import RecipeError, SettingsError
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.trainer import TrainingError
from darkroom.model.user_error import UserError
from tests.model.small import small_recipe
from tests.processes import PATIENCE_SECONDS

CLASSES = ("a", "b", "c")
SIDE = 8
RECIPE = small_recipe(
    training__total_images=32,
    training__checkpoint_every_images=1000,
    dataset={"format": "npz", "class_names": CLASSES},
)
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (30, SIDE, SIDE), dtype=np.uint8)
LABELS = np.arange(30) % len(CLASSES)


def _train(place: Path, data: Any, **options: Any) -> darkroom.TrainedModel:
    given = {"folder": place / "run", "cache": place / "cache", "device": "cpu"} | options
    return darkroom.train(given.pop("recipe", RECIPE), data, **given)


def _equal(one: darkroom.TrainedModel, other: darkroom.TrainedModel) -> bool:
    """Say whether both predict the same to the last bit, for each class and for none."""
    labels = torch.arange(len(one.class_names) + 1)
    x = torch.randn(len(labels), *one.denoiser.image_shape, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(1, one.denoiser.config.schedule.steps, len(labels)).long()
    return torch.equal(one.denoiser.network(x, t, labels), other.denoiser.network(x, t, labels))


class _Pictures:
    """A data set as torchvision's are: PIL images with labels, and the classes' names."""

    classes = CLASSES

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(IMAGES[index]), int(LABELS[index])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> darkroom.TrainedModel:
    """The model that arrays give."""
    return _train(tmp_path_factory.mktemp("reference"), (IMAGES, LABELS), class_names=CLASSES)


def _npz(folder: Path) -> Path:
    np.savez(folder / "images.npz", images=IMAGES, labels=LABELS)
    return folder / "images.npz"


def _class_folders(folder: Path) -> Path:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        place = folder / "pictures" / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03d}.png")
    return folder / "pictures"


def _zip(folder: Path) -> Path:
    pictures = _class_folders(folder)
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for path in sorted(pictures.rglob("*.png")):
            archive.write(path, path.relative_to(pictures))
    return folder / "pictures.zip"


FORMS: dict[str, Any] = {
    "colourless arrays": lambda folder: (IMAGES[..., None], LABELS),
    "tensors": lambda folder: (torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
    "path as text": lambda folder: str(_npz(folder)),
    "path": _npz,
    "data set of PIL images": lambda folder: _Pictures(),
    "data set of bytes": lambda folder: TensorDataset(torch.from_numpy(IMAGES)[:, None], torch.from_numpy(LABELS)),
    "data set of floats": lambda folder: TensorDataset(
        torch.from_numpy(IMAGES)[:, None].float() / 255, torch.from_numpy(LABELS)
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_data_does_not_change_the_model(
    form: str, reference: darkroom.TrainedModel, tmp_path: Path
) -> None:
    model = _train(tmp_path, FORMS[form](tmp_path), class_names=CLASSES)
    assert model.class_names == CLASSES
    assert model.header.dataset_digest == reference.header.dataset_digest
    assert _equal(model, reference)


@pytest.mark.parametrize("made", [_class_folders, _zip])
def test_a_folder_and_a_zip_of_class_folders_are_read_and_scaled_to_the_recipe(made: Any, tmp_path: Path) -> None:
    larger = small_recipe(training__total_images=8, model__image_size=16, model__unet__attention_resolutions=(8,))
    model = _train(tmp_path, made(tmp_path), recipe=larger)
    assert model.class_names == CLASSES
    assert model.generate("b", seed=1)[0].size == (16, 16)


def test_a_run_is_the_commands_and_each_goes_on_with_the_others(tmp_path: Path) -> None:
    recipe = small_recipe(
        training__total_images=48, dataset={"format": "npz", "path": str(_npz(tmp_path)), "class_names": CLASSES}
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    command = [Path(sys.executable).with_name("darkroom"), "train", path, "--folder", tmp_path / "commands"]
    command += ["--datasets", tmp_path / "cache", "--device", "cpu"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    theirs = {file.name: file.read_bytes() for file in (tmp_path / "commands" / "checkpoints").iterdir()}
    for form in (path, recipe, recipe.model_dump()):
        model = _train(tmp_path, None, recipe=form, folder=tmp_path / "ours")
        ours = {file.name: file.read_bytes() for file in (tmp_path / "ours" / "checkpoints").iterdir()}
        assert ours == theirs
    last = max(theirs)
    assert model.digest == darkroom.load(tmp_path / "commands" / "checkpoints" / last, device="cpu").digest
    (tmp_path / "commands" / "checkpoints" / min(theirs)).unlink()
    again = _train(tmp_path, None, recipe=path, folder=tmp_path / "commands")
    assert again.digest == model.digest
    assert not (tmp_path / "commands" / "checkpoints" / min(theirs)).exists()  # it did not begin again


def test_an_interrupt_keeps_a_checkpoint_and_the_same_call_ends_as_if_nothing_had_been(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update={"total_images": 240})})
    options = {"recipe": recipe, "class_names": CLASSES}
    whole = _train(tmp_path, (IMAGES, LABELS), folder=tmp_path / "whole", **options)
    before = signal.getsignal(signal.SIGINT)
    points: list[CurvePoint] = []

    def interrupt(point: CurvePoint) -> None:
        points.append(point)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"stopped after 160 images; the same call goes on in .*run"):
        _train(tmp_path, (IMAGES, LABELS), on_progress=interrupt, **options)
    assert "Stopping after this step" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert [point.images_seen for point in points] == [160]
    assert _equal(_train(tmp_path, (IMAGES, LABELS), **options), whole)
    assert not (tmp_path / "run" / "lock").exists()


def test_overrides_name_fields_of_a_shipped_recipe(tmp_path: Path) -> None:
    overrides = {"training.total_images": 8, "training.batch_size": 8, "model.unet.width": 16, "evaluation": None}
    model = _train(tmp_path, None, recipe="digits", overrides=overrides)
    recipe = model.header.recipe
    assert recipe is not None
    assert (recipe.training.total_images, recipe.model.unet.width, recipe.evaluation) == (8, 16, None)
    assert model.header.images_seen == 8
    with pytest.raises(RecipeError, match=r"training\.total_imagez"):
        _train(tmp_path, None, recipe="digits", overrides={"training.total_imagez": 8})
    with pytest.raises(RecipeError, match=r"trainin: Extra inputs are not permitted"):
        _train(tmp_path, None, recipe="digits", overrides={"trainin.total_images": 8})


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    colours = np.zeros((30, SIDE, SIDE, 3), dtype=np.uint8)
    floats = TensorDataset(torch.full((4, 1, SIDE, SIDE), -1.0), torch.zeros(4, dtype=torch.long))
    for data, kind, words in (
        ((IMAGES.astype(float), LABELS), DatasetError, r"data: images: float64 .* uint8 \(N, H, W\)"),
        ((IMAGES, LABELS.astype(float)), DatasetError, "data: labels: float64; integers expected"),
        ((IMAGES, LABELS[:-1]), DatasetError, "29 labels for the 30 images"),
        ((IMAGES, LABELS + 1), DatasetError, r"label 3 .* is not in 0\.\.2"),
        ((IMAGES,), DatasetError, r"a tuple of 1; \(images, labels\) expected"),
        ((colours, LABELS), TrainingError, r"model\.image_channels: is 1, but .* set it to 3"),
        (floats, DatasetError, r"floats outside 0\.\.1"),
        ([], DatasetError, "holds no images"),
        (5, DatasetError, "type int; a path"),
        (tmp_path / "nowhere", DatasetError, "nowhere: no such folder"),
        (None, DatasetError, "needs a path"),
    ):
        with pytest.raises(kind, match=words):
            _train(tmp_path, data, class_names=CLASSES)
    with pytest.raises(UserError, match=r"no recipe 'digit': name a shipped one \(.*digits"):
        darkroom.train("digit")
    with pytest.raises(RecipeError, match="recipe: name: Field required"):
        darkroom.train({})
    assert not (tmp_path / "run").exists()


def test_an_evaluation_finds_what_training_found_to_the_last_digit(tmp_path: Path) -> None:
    judged = {"every_images": 8, "images": 8, "steps": 2, "metrics": ("fid",)}
    data = (IMAGES, LABELS)
    model = _train(tmp_path, data, class_names=CLASSES, overrides={"training.total_images": 8, "evaluation": judged})
    (during,) = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    cache = tmp_path / "cache"
    for again in (
        darkroom.evaluate(model, cache=cache),  # the arrays, as the cache keeps them
        darkroom.evaluate(model, data, class_names=CLASSES, cache=tmp_path / "another"),
        darkroom.evaluate(tmp_path / "run" / "checkpoints" / "0000000008.safetensors", cache=cache),
    ):
        assert [(one.metric, one.value, one.protocol) for one in again] == [
            (during["metric"], during["value"], during["protocol"])
        ]
    assert f"| {during['metric']} | {during['value']!r} | " in again._repr_markdown_()
    assert repr(again) == f"{during['metric']}: {during['value']:g}"
    (other,) = darkroom.evaluate(model, cache=cache, seed=1, sampler="ddpm")
    assert other.protocol["sampler"] == "ddpm"
    assert other.value != during["value"]
    with pytest.raises(SettingsError, match="beauty: no such setting"):
        darkroom.evaluate(model, cache=cache, beauty=3)
    for text in ({"images": "10"}, {"guidance": "2"}):
        with pytest.raises(SettingsError, match=r"give a number, without quotes"):
            darkroom.evaluate(model, cache=cache, **text)
    with pytest.raises(DatasetError, match="needs a path"):
        darkroom.evaluate(model, cache=tmp_path / "empty")


def test_data_and_minutes_are_enough_and_the_same_call_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("darkroom.training.measured_speed", lambda *_, **__: lambda recipe: 100.0)
    small = {"training.total_images": 64, "model.unet.width": 16, "model.unet.attention_head_channels": 8}
    small |= {"training.guide_snapshot_images": 32, "training.minutes": 0.01}
    options: dict[str, Any] = {"minutes": 2, "overrides": small, "cache": tmp_path / "cache", "device": "cpu"}
    model = darkroom.train(data=(IMAGES, LABELS), folder=tmp_path / "run", **options)
    assert model.denoiser.image_shape == (1, SIDE, SIDE)
    assert "10,200 images in 2 minutes, at 100 images/s" in capsys.readouterr().out
    assert _equal(darkroom.train(data=(IMAGES, LABELS), folder=tmp_path / "run", **options), model)  # nothing is left
    assert "images in 2 minutes" not in capsys.readouterr().out  # the plan was kept
    folders = darkroom.train(data=_class_folders(tmp_path), folder=tmp_path / "other", **options)
    assert folders.class_names == CLASSES
    for wrong in ({"recipe": RECIPE, "data": IMAGES, "minutes": 2}, {"minutes": 2}, {"data": IMAGES}):
        with pytest.raises(SettingsError, match="minutes"):
            darkroom.train(**wrong)
    text: Any = "2"
    with pytest.raises(SettingsError, match="minutes is '2': give a number, without quotes"):
        darkroom.train(data=IMAGES, minutes=text)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: a training state, .* name a weights file"):
        darkroom.load(tmp_path / "run" / "state.safetensors")


def test_a_run_of_more_than_a_day_begins_only_when_asked(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    points: list[CurvePoint] = []

    def third(now: CurvePoint) -> None:
        points.append(now)
        if len(points) == 3:
            raise Enough

    for number, overrides in enumerate(({"training.total_images": 10**12}, {"training.minutes": 60.0 * 30.0})):
        options: dict[str, Any] = {"class_names": CLASSES, "overrides": overrides, "folder": tmp_path / str(number)}
        refused = r"this run would take about [\d.,]+ (hours|days) here, at .* images/s: pass long=True"
        with pytest.raises(TrainingError, match=refused):
            _train(tmp_path, (IMAGES, LABELS), **options)
        points.clear()
        with pytest.raises(Enough):
            _train(tmp_path, (IMAGES, LABELS), long=True, on_progress=third, **options)
