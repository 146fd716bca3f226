"""Small networks, data sets and recipes for tests."""

import hashlib
from typing import Any

import numpy as np
import torch

from darkroom.model.config import ModelConfig, PredictionName, Recipe, ScheduleConfig, UNetConfig, parse_recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.unet import UNet

CLASS_NAMES = ("circle", "square", "cross")


def awaken(network: torch.nn.Module, seed: int = 0) -> None:
    """Replace every parameter by random numbers, so that no zero-initialised layer hides a part of the network."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = 0.3 if "norm" in name or parameter.ndim < 2 else 0.8 / parameter[0].numel() ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator) + ("norm" in name))


def small_unet(**changes: Any) -> UNetConfig:
    settings: dict[str, Any] = {
        "width": 16,
        "multipliers": (1, 2),
        "blocks_per_level": 1,
        "attention_resolutions": (4,),
        "attention_head_channels": 8,
        "norm_groups": 4,
    }
    return UNetConfig.model_validate(settings | changes)


def small_model(**changes: Any) -> ModelConfig:
    """Return a small model; `changes` are fields of the model or of its network."""
    own = {name: changes.pop(name) for name in list(changes) if name in ModelConfig.model_fields}
    return ModelConfig.model_validate({"image_channels": 1, "image_size": 8, "unet": small_unet(**changes)} | own)


def small_denoiser(prediction: PredictionName = "v", **changes: Any) -> Denoiser:
    """Return a denoiser with a random network that depends on image, time and class."""
    config = small_model(prediction=prediction, **changes)
    network = UNet(config, len(CLASS_NAMES))
    awaken(network)
    return Denoiser(config, CLASS_NAMES, network.eval().requires_grad_(False))


def random_dataset(count: int = 20, channels: int = 1, side: int = 8, seed: int = 0) -> ImageDataset:
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    labels = draw.integers(0, len(CLASS_NAMES), count)
    digest = "sha256:" + hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return ImageDataset(images, labels, CLASS_NAMES, digest)


def small_recipe(**changes: Any) -> Recipe:
    """Return a recipe with all randomness turned on; `changes` are fields by dotted name, with `__` for the dot."""
    data: dict[str, Any] = {
        "name": "small",
        "dataset": {"format": "digits"},
        "model": small_model(schedule=ScheduleConfig(steps=100), dropout=0.2).model_dump(),
        "objective": {"label_drop": 0.3},
        "optimizer": {"learning_rate": 2e-3, "warmup_images": 30, "decay": "cosine", "weight_decay": 0.01},
        "ema": {"decay": 0.9, "warmup_iterations": 3},
        "training": {
            "total_images": 96,
            "early_verdict": "off",  # so short a run fails each verdict
            "batch_size": 8,
            "seed": 3,
            "horizontal_flip": True,
            "checkpoint_every_images": 16,
            "sample_every_images": 1000,
            "samples_per_class": 1,
        },
        "sampling": {"steps": 2},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = data
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return parse_recipe(data, source="small")
