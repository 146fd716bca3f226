"""Laws of `darkroom.load` and what it returns: the service's pixels, and clear words about what does not fit."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import darkroom
from darkroom.model.checkpoint import CheckpointError
from darkroom.model.class_names import ClassNotFound
from darkroom.model.config import SettingsError
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.user_error import UserError
from tests.app.served import CLASS_NAMES, SIDE, Service, cut_grid, pixels_of, serving, tiny_weights, weights_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with one tiny model."""
    return weights_folder(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """The service with the same model."""
    with serving(folder) as service:
        yield service


@pytest.fixture(scope="module")
def model(folder: Path) -> darkroom.TrainedModel:
    return darkroom.load(folder / "tiny.safetensors", device="cpu")


@pytest.mark.parametrize(
    "request_body",
    [
        {"class": "One", "n": 4, "seed": 7},
        {"class": [3, "t-shirt/TOP"], "n": 2, "seed": 2**63 - 1, "first_index": 5},
        {"class": "Zero", "n": 2, "seed": 1, "sampler": "ddpm", "steps": 6, "guidance": 0.0},
        {"class": ["One", "Zero"], "n": 2, "seed": 3, "best_of": 5},
    ],
    ids=["one class", "several", "settings", "best of"],
)
def test_the_pixels_and_scores_are_those_that_the_service_answers(
    service: Service, model: darkroom.TrainedModel, request_body: dict[str, Any]
) -> None:
    asked = {"classes" if name == "class" else name: value for name, value in request_body.items()}
    answer, images = service.generate(**request_body), model.generate(**asked)
    assert np.array_equal(images.pixels, pixels_of(answer))
    assert images.seed == answer["seed"]
    assert images.sampling.model_dump(mode="json").items() <= answer.items()
    assert images.scores == pytest.approx(answer["scores"] or (), abs=1e-6)
    assert len(images.scores) == (len(images) if "best_of" in request_body else 0)


def test_an_interpolation_is_the_services(service: Service, model: darkroom.TrainedModel) -> None:
    body = {"class": ["Zero", "Größe"], "seeds": [1, 2], "indices": [0, 3], "count": 5, "format": "json"}
    answer = service.client.post("/v1/interpolate", json=body)
    assert answer.status_code == 200, answer.text
    images = model.interpolate("Zero", "Größe", seeds=(1, 2), indices=(0, 3), count=5)
    assert np.array_equal(images.pixels, pixels_of(answer.json()))
    assert np.array_equal(images.pixels[0], model.generate("Zero", seed=1).pixels[0])
    assert np.array_equal(images.pixels[4], model.generate("Größe", seed=2, first_index=3).pixels[0])


def test_the_pixels_are_those_of_the_models_own_drawing(model: darkroom.TrainedModel) -> None:
    plans = [plan_row(model.denoiser, model.sampling, label=1, seed=7, index=index) for index in range(3)]
    assert np.array_equal(model.generate("One", n=3, seed=7).pixels, to_pixels(sample(model.denoiser, plans)))


def test_a_shipped_model_is_found_by_name_and_a_file_by_text_or_path(folder: Path) -> None:
    assert darkroom.load("fashion-mnist", device="cpu").name == "fashion-mnist"
    path = folder / "tiny.safetensors"
    digests = {darkroom.load(where, device="cpu").digest for where in (path, str(path))}
    assert len(digests) == 1


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lacking.safetensors").write_bytes(tiny_weights(class_names=("a", "b", "c"), undrawn=(1,)))
    lacking = darkroom.load(tmp_path / "lacking.safetensors", device="cpu")
    for draw in (lambda: lacking.generate(["a", "b"]), lambda: lacking.interpolate("a", 1, seeds=(1, 2))):
        with pytest.raises(ClassNotFound, match="no image of the class 'b'; name one of a, c"):
            draw()


def test_an_unknown_model_is_refused_with_the_names_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'shoes': name a shipped one \(.*fashion-mnist.*\), or give the path of a"):
        darkroom.load("shoes")
    for missing in ("shoes.safetensors", tmp_path / "shoes"):
        with pytest.raises(CheckpointError, match=r"shoes.*: No such file"):
            darkroom.load(missing)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"broken\.safetensors: not a readable"):
        darkroom.load(broken)
    with pytest.raises(UserError, match="device tpu cannot be used"):
        darkroom.load("fashion-mnist", device="tpu")


def test_the_model_says_what_it_is(model: darkroom.TrainedModel) -> None:
    said = repr(model)
    for part in ("tiny", model.digest, *CLASS_NAMES, f"{SIDE}x{SIDE}", "sampler ddim", "steps 4", "guidance 2.0"):
        assert part in said


def test_the_models_own_settings_give_way_and_named_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "coarse.safetensors"
    path.write_bytes(tiny_weights(spacing="edm_coarse"))
    model = darkroom.load(path, device="cpu")
    images = model.generate(0, seed=1, sampler="ddpm", steps=500)
    assert (images.sampling.steps, images.sampling.sampler, images.sampling.spacing) == (500, "ddpm", "trailing")
    with pytest.raises(SettingsError, match=r"^spacing, steps: "):
        model.generate(0, spacing="edm_coarse", steps=500)
    assert model.interpolate(0, seeds=(1, 2), count=2, steps=3).sampling.sampler == "ddim"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": "One", "stepz": 3}, "stepz: no such setting; there are .*steps"),
        ({"classes": "One", "steps": 0}, "^steps: "),
        ({"classes": "One", "n": 0}, "^n is 0"),
        ({"classes": "One", "n": 3, "best_of": 2}, "^n is 3: .* at most best_of"),
        ({"classes": "One", "best_of": 2, "guidance": 0.0}, "^best_of needs images of a class"),
        ({"classes": "One", "seed": -1}, "^the seed is -1"),
        ({"classes": "One", "first_index": 2**31 - 1, "n": 2}, "^first_index is 2147483647"),
        ({"classes": []}, "^classes is empty"),
        ({"classes": "One", "guidance": "2"}, "^guidance is '2': give a number, without quotes"),
        ({"classes": "One", "steps": True}, "^steps is True: give a number"),
        ({"classes": "One", "guidance": "high"}, "^guidance: .*valid number"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model: darkroom.TrainedModel, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        model.generate(**arguments)


def test_other_refusals(model: darkroom.TrainedModel) -> None:
    with pytest.raises(ClassNotFound, match="no class 'Two'; name one of Zero, One"):
        model.generate("Two")
    with pytest.raises(SettingsError, match=r"^sampler: interpolation needs a deterministic sampler"):
        model.interpolate("One", seeds=(1, 2), sampler="ddpm")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"seeds": (1,)}, "^seeds and indices must be two numbers each"),
        ({"seeds": (1, 2), "count": 1}, "^count is 1"),
        ({"seeds": (1, 2), "indices": (0, -1)}, "^indices must be in 0"),
        ({"seeds": (1, -2)}, "^the seed is -2"),
    ]
    for arguments, words in wrong:
        with pytest.raises(SettingsError, match=words):
            model.interpolate("One", **arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", "4"), ("n", 2.5), ("n", True), ("seed", 1.5), ("seed", "7"), ("first_index", 1.5), ("best_of", "8")],
)
def test_what_is_no_whole_number_is_refused_and_not_cut(model: darkroom.TrainedModel, name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{name} is {value!r}: it must be a whole number"):
        model.generate(0, **{name: value})


@pytest.mark.parametrize("classes", [None, 1.0, [0, None]])
def test_what_is_no_class_is_refused(model: darkroom.TrainedModel, classes: Any) -> None:
    with pytest.raises(UserError, match="must be a whole number"):
        model.generate(classes)


def test_numpys_integers_are_numbers(model: darkroom.TrainedModel) -> None:
    once = model.generate(1, n=1, seed=7, steps=2)
    again = model.generate(np.int64(1), n=np.int64(1), seed=np.int32(7), steps=2)
    assert np.array_equal(once.pixels, again.pixels)


@pytest.mark.parametrize("changes", [{"seeds": 5}, {"seeds": (1, 2), "count": "3"}, {"seeds": (1, 2), "indices": "ab"}])
def test_an_interpolation_between_no_numbers_is_refused(model: darkroom.TrainedModel, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="whole number"):
        model.interpolate(0, **changes)


@pytest.mark.parametrize("reference", [None, 5])
def test_what_is_no_name_of_a_model_is_refused(reference: Any) -> None:
    with pytest.raises(UserError, match="give a name or a path"):
        darkroom.load(reference)


def test_a_seed_that_is_left_out_is_drawn_and_told(model: darkroom.TrainedModel) -> None:
    first, second = (model.generate("One") for _ in range(2))
    assert first.seed != second.seed
    assert np.array_equal(first.pixels, model.generate("One", seed=first.seed).pixels)


def test_the_list_is_a_sequence_of_pillow_images_and_a_notebook_shows_its_grid(model: darkroom.TrainedModel) -> None:
    images = model.generate(["One", "Zero"], n=3, seed=7)
    assert len(images) == 6
    assert all(isinstance(image, Image.Image) for image in images)
    assert np.array_equal(np.asarray(images[-1])[..., None], images.pixels[5])
    assert np.array_equal(images[1:3].pixels, images.pixels[1:3])
    sheet = np.asarray(images.grid())[..., None]
    assert np.array_equal(cut_grid(sheet, 6, columns=3), images.pixels)
    shown = images._repr_png_()
    assert shown is not None
    enlarged = np.asarray(Image.open(BytesIO(shown)))
    scale = enlarged.shape[0] // sheet.shape[0]
    assert scale > 1
    assert np.array_equal(enlarged[::scale, ::scale], sheet[..., 0])
    assert images[:0]._repr_png_() is None
    assert images[0].size == (SIDE, SIDE)
    assert "6 images" in repr(images)
    assert "seed 7" in repr(images)
