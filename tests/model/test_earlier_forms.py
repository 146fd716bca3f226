"""Older files and recipes, with the image's form in the network, are read and mean the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save

from darkroom.model.checkpoint import (
    CheckpointError,
    CheckpointHeader,
    SnapshotHeader,
    decode_checkpoint,
    encode_checkpoint,
    load_checkpoint,
    read_metadata,
)
from darkroom.model.config import ModelConfig, Recipe, RecipeError, load_recipe, parse_recipe
from darkroom.model.diffusion.network import build_network
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.training.trainer import Trainer
from tests.model.earlier import earlier
from tests.model.small import CLASS_NAMES, random_dataset, small_model, small_recipe, small_unet

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "weights" / "fashion-mnist.safetensors"
CPU = torch.device("cpu")

SNEAKER = [
    [0.2, 0.27, 2.53, 0.43],
    [0.43, 15.57, 152.51, 136.57],
    [46.16, 112.31, 148.49, 131.57],
    [1.14, 5.98, 3.78, 1.33],
]
"""Mean grey of blocks of 7 x 7 pixels, as the older software drew them."""


def with_metadata(data: bytes, key: str, value: str) -> bytes:
    return save(load(data), metadata=read_metadata(data, source="here") | {key: value})


def test_the_shipped_weights_have_the_older_form_and_draw_the_same_image() -> None:
    header = json.loads(read_metadata(SHIPPED.read_bytes(), source="shipped")["darkroom"])
    assert "image_size" in header["model"]["unet"]
    assert "image_size" not in header["model"]
    checkpoint = load_checkpoint(SHIPPED)
    assert checkpoint.digest == "sha256:42958e9f9a6d9e2067241d1d7dbc73a7e99b3b6c037250b59bdf2931e442b65c"
    assert (checkpoint.header.model.image_channels, checkpoint.header.model.image_size) == (1, 28)
    denoiser = checkpoint.denoiser()
    plan = plan_row(denoiser, checkpoint.header.sampling, label=7, seed=1, index=0)
    pixels = to_pixels(sample(denoiser, [plan]))[0, :, :, 0]
    np.testing.assert_allclose(pixels.reshape(4, 7, 4, 7).mean((1, 3)), SNEAKER, atol=1.0)


def test_an_older_training_state_resumes_bit_for_bit() -> None:
    recipe, dataset = small_recipe(), random_dataset()
    stopped = Trainer(recipe, dataset, CPU)
    stopped.step()
    old = with_metadata(stopped.state(), "recipe", json.dumps(earlier(recipe.model_dump(mode="json"))))
    assert '"unet": {"patch_size"' in read_metadata(old, source="here")["recipe"]
    assert "image_size" not in json.loads(read_metadata(old, source="here")["recipe"])["model"]
    resumed = Trainer(recipe, dataset, CPU)
    resumed.resume(old, source="the state")
    assert resumed.step() == stopped.step()
    Trainer(recipe, dataset, CPU).continue_from(old, source="the state")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("strict", [False, True])
def test_an_older_stored_recipe_is_the_same_recipe(path: Path, strict: bool) -> None:
    recipe = load_recipe(path)
    old = earlier(recipe.model_dump(mode="json"))
    assert old["model"]["unet"]["image_size"] == recipe.model.image_size
    assert Recipe.model_validate_json(json.dumps(old), strict=strict) == recipe


def carrying(snapshot: dict[str, Any]) -> bytes:
    """Return an older weights file with a smaller network as its snapshot. snapshot: changes of its header."""
    model, unet = small_model(), small_unet(width=8)
    header = CheckpointHeader(
        name="small",
        model=model,
        sampling=small_recipe().sampling,
        class_names=CLASS_NAMES,
        images_seen=100,
        dataset_digest="sha256:0",
        snapshot=SnapshotHeader(images_seen=50, unet=unet),
    )
    networks = [build_network(one, len(CLASS_NAMES), 1000) for one in (model, header.snapshot_model)]
    data = encode_checkpoint(header, networks[0].state_dict(), networks[1].state_dict())
    told = earlier(header.model_dump(mode="json"))
    told["snapshot"]["unet"] |= {"image_channels": 1, "image_size": 8} | snapshot
    return with_metadata(data, "darkroom", json.dumps(told))


def test_a_snapshots_own_network_in_the_older_form_is_read() -> None:
    checkpoint = decode_checkpoint(carrying({}), source="here")
    assert checkpoint.header.snapshot == SnapshotHeader(images_seen=50, unet=small_unet(width=8))
    assert checkpoint.denoiser().snapshot is not None


@pytest.mark.parametrize(
    ("snapshot", "complaint"),
    [
        ({"image_size": 16}, r"image_size is 8, but unet\.image_size, its old place, says 16"),
        ({"attention_resolutions": [3]}, "attention resolution 3 is not a level"),
    ],
)
def test_a_snapshot_for_another_image_form_is_refused(snapshot: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        decode_checkpoint(carrying(snapshot), source="here")


def test_both_places_may_agree_and_not_differ() -> None:
    both = {"image_size": 16, "unet": {"image_size": 16, "attention_resolutions": [8]}}
    assert ModelConfig.model_validate(both).image_size == 16
    with pytest.raises(ValidationError, match=r"image_size is 8, but unet\.image_size, .* says 16: remove"):
        ModelConfig.model_validate({**both, "image_size": 8})
    data = load_recipe(ROOT / "recipes" / "digits.yaml").model_dump(mode="json")
    data["model"]["unet"]["image_channels"] = 3
    with pytest.raises(RecipeError, match=r"^here: model: .*image_channels is 1, but unet\.image_channels"):
        parse_recipe(data, source="here")
