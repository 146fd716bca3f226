"""Estimates a recipe's speed on a machine that measured a few reference networks, by counting operations.

The machine that plans need not be the one that trains: a worker measures once, and stores what it found.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from darkroom.model.config import Config, ModelConfig, Recipe, parse_recipe
from darkroom.model.diffusion.network import build_network
from darkroom.model.training.run import multiplies_bfloat16

CLASSES = 10
_REFERENCES = ((8, 32, 1, 128), (16, 32, 2, 128), (16, 96, 2, 32))
"""Side, width, levels and batch size of what a machine measures: together they separate the three kinds of cost."""


Measured = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Rate(Config):
    """A measured speed, with what was counted for that network."""

    precision: str
    operations: Measured = Field(description="of the network's forward pass, for one image")
    values: Measured = Field(description="that the network's layers write in it")
    batch_size: int
    images_per_second: Measured


@dataclass(frozen=True)
class Count:
    """The cost of a network's forward pass for one image."""

    operations: float
    values: float


def references(device: torch.device) -> list[Recipe]:
    """Return the recipes that a machine measures, the quickest first.

    bfloat16 is left out on CPUs that only emulate it, where it takes many times longer.
    """
    with_bfloat16 = device.type != "cpu" or multiplies_bfloat16()
    precisions = ("float32", "bfloat16") if with_bfloat16 else ("float32",)
    return [_reference(*shape, precision) for precision in precisions for shape in _REFERENCES]


def rate(recipe: Recipe, images_per_second: float) -> Rate:
    """Return what a machine stores of a measurement."""
    counted, training = count(recipe), recipe.training
    return Rate(
        precision=training.precision,
        operations=counted.operations,
        values=counted.values,
        batch_size=training.batch_size,
        images_per_second=images_per_second,
    )


def scaled_speed(rates: Iterable[Rate]) -> Callable[[Recipe], float]:
    """Return a function from a recipe to its expected training images per second; 0 for an unmeasured precision.

    An image costs its operations, the values that layers write, and its share of a batch's fixed cost. What each costs
    follows from the measured networks.
    """
    by_precision: dict[str, list[Rate]] = {}
    for one in rates:
        by_precision.setdefault(one.precision, []).append(one)
    costs = {precision: _costs(measured) for precision, measured in by_precision.items()}

    def speed(recipe: Recipe) -> float:
        training = recipe.training
        if training.precision not in costs:
            return 0.0
        counted = count(recipe)
        parts = np.array([counted.operations, counted.values, 1.0 / training.batch_size])
        return float(1.0 / (parts @ costs[training.precision])) * training.devices

    return speed


def count(recipe: Recipe) -> Count:
    """Count a recipe's network. Attention counts with its products, an activation with its values."""
    return _count(recipe.model.model_dump_json())


@lru_cache(maxsize=256)
def _count(model: str) -> Count:
    config = ModelConfig.model_validate_json(model)
    with FakeTensorMode():  # computes shapes alone, so that the largest network takes no memory
        return _counted(config)


def _counted(config: ModelConfig) -> Count:
    network = build_network(config, CLASSES, config.schedule.steps).eval()
    values = 0

    def add(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal values
        values += output.numel()

    for module in network.modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(add)
    image = torch.zeros(1, config.image_channels, config.image_size, config.image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image, torch.ones(1), torch.zeros(1, dtype=torch.int64))
    return Count(float(counter.get_total_flops()), float(values))


def _costs(measured: Sequence[Rate]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the seconds of an operation, of a value and of a batch that fit the rates best; none is negative.

    The best fit with no negative cost leaves out some costs and fits the others freely, so all choices are tried.
    """
    seconds = np.array([1.0 / one.images_per_second for one in measured])
    parts = np.array([(one.operations, one.values, 1.0 / one.batch_size) for one in measured])
    relative = parts / seconds[:, None]  # relative errors count, not seconds
    best, least = np.zeros(3), np.inf
    for size in (1, 2, 3):
        for chosen in combinations(range(3), size):
            found, *_ = np.linalg.lstsq(relative[:, chosen], np.ones(len(measured)), rcond=None)
            error = float(((relative[:, chosen] @ found - 1.0) ** 2).sum())
            if (found >= 0.0).all() and error < least:
                best, least = np.zeros(3), error
                best[list(chosen)] = found
    return best


def _reference(side: int, width: int, levels: int, batch_size: int, precision: str) -> Recipe:
    """A recipe like those of a plan (`plan.py`), for random pictures."""
    return parse_recipe(
        {
            "name": "speed",
            "dataset": {"format": "digits"},
            "model": {
                "prediction": "v",
                "image_channels": 3,
                "image_size": side,
                "unet": {
                    "width": width,
                    "multipliers": (1, 2)[:levels],
                    "blocks_per_level": 2,
                    "attention_resolutions": (side // 2 ** (levels - 1),),
                    "attention_head_channels": 32,
                    "norm_groups": 8,
                },
            },
            "optimizer": {"name": "muon"},
            "training": {
                "total_images": 1,
                "batch_size": batch_size,
                "precision": precision,
                "checkpoint_every_images": 1,
                "sample_every_images": 1,
            },
        },
        source="speed",
    )
