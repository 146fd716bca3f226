"""The interface between the benchmark and the libraries that it trains."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """One way to draw: "ddim-50-1.5" is 50 steps of DDIM with the guidance weight 1.5 (1 is without guidance)."""

    sampler: str
    steps: int
    guidance: float

    @classmethod
    def parse(cls, text: str) -> "Choice":
        """Parse SAMPLER-STEPS-GUIDANCE; raises ValueError for any other text."""
        match = re.fullmatch(r"([a-z0-9_]+)-(\d+)-(\d+(?:\.\d+)?)", text)
        if match is None:
            raise ValueError(f"{text!r} is not SAMPLER-STEPS-GUIDANCE, such as ddim-50-1.5")
        return cls(match[1], int(match[2]), float(match[3]))

    def __str__(self) -> str:
        return f"{self.sampler}-{self.steps}-{self.guidance:g}"


@dataclass(frozen=True)
class Settings:
    """The settings that stay the same during a run. The budget is in processor seconds or in images; one is None."""

    contender: str
    size: str
    seed: int
    batch_images: int
    learning_rate: float
    budget_seconds: float | None
    budget_images: int | None

    def done(self, seconds: float, images: int) -> float:
        """Return the used share of the budget; at least 1 at the end."""
        if self.budget_seconds is not None:
            return seconds / self.budget_seconds
        assert self.budget_images is not None
        return images / self.budget_images


class Contender(Protocol):
    """A network in training. It draws random numbers from torch's global generator, which the caller seeds."""

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""

    def step(self, pixels: Tensor, labels: Tensor, done: float) -> float:
        """Train on (B, C, H, W) uint8 and (B,) int64; returns the loss. done: used share of the budget."""

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs: tensors, numbers, and containers of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of `state`."""

    def draw(self, labels: Tensor, choice: Choice) -> Tensor:
        """Draw images (B, C, H, W) in -1..1 of the classes (B,) with the averaged weights."""


class Library(Protocol):
    """A module of `bench.peers` that wraps one library."""

    TITLE: str
    SIZES: Sequence[str]
    BATCH_IMAGES: int
    LEARNING_RATE: float
    CHOICES: Sequence[str]

    def build(self, settings: Settings, classes: int, channels: int, side: int) -> Contender:
        """Build a new network for images (channels, side, side); torch's global generator draws its weights."""

    def version(self) -> str:
        """Return the library's version."""


LIBRARIES = ("diffusers_unet", "classifier_free_guidance")


def library(name: str) -> Library:
    """Import and return a library's wrapper. It is imported here because it needs the peers' environment."""
    module: Any = import_module(f"bench.peers.{name}")
    wrapper: Library = module
    return wrapper
