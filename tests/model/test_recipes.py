"""Every shipped recipe trains: its archive is read, its network is built, and one step works."""

import gzip
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from darkroom.model.config import Recipe, load_recipe
from darkroom.model.datasets import load_dataset
from darkroom.model.diffusion.unet import UNet
from darkroom.model.training.trainer import Trainer
from tests.model.archives import write_tar

ROOT = Path(__file__).parents[2]
RECIPES = {path.stem: path for path in [*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "bench" / "peers").glob("*.yaml")]}
NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
IMAGES = 10
"""Images of each file: one of each class."""


def _pixels(channels: int, side: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(side).integers(0, 256, (IMAGES, channels, side, side), dtype=np.uint8)


def _cifar10(folder: Path) -> Path:
    batch = b"".join(bytes([label]) + image.tobytes() for label, image in enumerate(_pixels(3, 32)))
    members = {f"data_batch_{number}.bin": batch for number in range(1, 6)}
    members["batches.meta.txt"] = "\n".join(NAMES).encode()
    return write_tar(folder / "cifar-10-binary.tar.gz", members)


def _stl10(folder: Path) -> Path:
    by_column = _pixels(3, 96).transpose(0, 1, 3, 2).tobytes()
    members = {"class_names.txt": "\n".join(NAMES).encode()}
    for split in ("train", "test"):
        members |= {f"{split}_X.bin": by_column, f"{split}_y.bin": bytes(range(1, IMAGES + 1))}
    return write_tar(folder / "stl10_binary.tar.gz", members)


def _idx(folder: Path) -> Path:
    images = struct.pack(">4I", 0x803, IMAGES, 28, 28) + _pixels(1, 28).tobytes()
    labels = struct.pack(">2I", 0x801, IMAGES) + bytes(range(IMAGES))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return folder


def _folder(folder: Path) -> Path:
    for name, image in zip(NAMES, _pixels(3, 32), strict=True):
        path = folder / "data" / "train" / name / "0.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return folder / "data"


ARCHIVES: dict[str, tuple[Callable[[Path], Path], int]] = {
    "cifar10": (_cifar10, 5 * IMAGES),
    "stl10": (_stl10, 2 * IMAGES),
    "idx": (_idx, IMAGES),
    "folder": (_folder, IMAGES),
}
"""For each format: the writer of an archive in its published form, and the number of images that a recipe reads."""


def _with_its_archive(recipe: Recipe, folder: Path) -> tuple[Recipe, int]:
    if recipe.dataset.format == "digits":
        return recipe, 1500
    write, images = ARCHIVES[recipe.dataset.format]
    return recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"path": write(folder)})}), images


def _made_cheap(recipe: Recipe) -> Recipe:
    """Two images in a batch, and as few channels as the norms allow: the same layers at a sixteenth of the work."""
    unet = recipe.model.unet
    narrow = unet.model_copy(update={"width": min(unet.width, max(32, unet.norm_groups))})
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"unet": narrow}),
            "training": recipe.training.model_copy(update={"batch_size": 2, "compile": False}),
        }
    )


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_step_of_every_recipe(name: str, tmp_path: Path) -> None:
    recipe, images = _with_its_archive(load_recipe(RECIPES[name]), tmp_path)
    with torch.device("meta"):
        UNet(recipe.model, classes=10)
    recipe = _made_cheap(recipe)
    dataset = load_dataset(recipe.dataset, tmp_path / "cache")
    assert len(dataset) == images
    trainer = Trainer(recipe, dataset, torch.device("cpu"))
    head = trainer.network.head.weight
    assert not head.any()
    loss, norm = trainer.step()
    assert trainer.images_seen == 2
    assert 0.0 < loss < 10.0
    assert math.isfinite(norm)
    assert head.any()


@pytest.mark.parametrize(("name", "images"), [("cifar10", 50_000), ("stl10", 13_000)])
def test_the_published_recipes_take_400_epochs(name: str, images: int) -> None:
    recipe = load_recipe(RECIPES[name])
    assert recipe.training.total_images == 400 * images
    assert recipe.training.total_images % recipe.training.checkpoint_every_images == 0
