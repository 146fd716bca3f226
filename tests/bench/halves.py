"""A data set of two classes that are easy to tell apart, and the weights file of an untrained network for it."""

from pathlib import Path

import numpy as np
import torch

from darkroom.model.checkpoint import CheckpointHeader, encode_checkpoint
from darkroom.model.config import Recipe, parse_recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.unet import UNet


def write_idx(folder: Path, prefix: str, count: int, seed: int) -> None:
    """Write `count` 8x8 images in two classes: noise with a bright half, left for label 0 and right for label 1."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    images = random.integers(0, 100, (count, 8, 8), dtype=np.uint8)
    images[labels == 0, :, :4] += 100
    images[labels == 1, :, 4:] += 100
    header = b"\x00\x00\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    header = b"\x00\x00\x08\x01" + count.to_bytes(4, "big")
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def halves_recipe(data: Path) -> Recipe:
    """Return the recipe of a small network for the data set in the folder `data`."""
    unet = {
        "width": 8,
        "multipliers": [1],
        "blocks_per_level": 1,
        "attention_resolutions": [],
        "attention_head_channels": 8,
        "norm_groups": 4,
    }
    return parse_recipe(
        {
            "name": "halves",
            "dataset": {"format": "idx", "path": str(data), "class_names": ["left", "right"]},
            "model": {"image_channels": 1, "image_size": 8, "unet": unet},
            "training": {"total_images": 4000, "checkpoint_every_images": 1000, "sample_every_images": 1000},
            "sampling": {"guidance": 2.5, "steps": 2},
        },
        source="test",
    )


def untrained_weights(recipe: Recipe, train: ImageDataset) -> bytes:
    """Make the weights file of an untrained network, whose header says that it saw 3,600 images."""
    torch.manual_seed(0)
    header = CheckpointHeader(
        name=recipe.name,
        model=recipe.model,
        sampling=recipe.sampling,
        class_names=train.class_names,
        images_seen=3600,
        dataset_digest=train.digest,
        recipe=recipe,
    )
    return encode_checkpoint(header, UNet(recipe.model, 2).state_dict())
