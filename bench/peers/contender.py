"""What the benchmark asks of each library that it trains, and where to find them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """One way to draw: "ddim-50-1.5" is 50 steps of DDIM with the guidance weight 1.5 (1 is plain conditional)."""

    sampler: str
    steps: int
    guidance: float

    @classmethod
    def parse(cls, text: str) -> "Choice":
        """Raises ValueError when the text is no choice."""
        match = re.fullmatch(r"([a-z0-9_]+)-(\d+)-(\d+(?:\.\d+)?)", text)
        if match is None:
            raise ValueError(f"{text!r} is not SAMPLER-STEPS-GUIDANCE, such as ddim-50-1.5")
        return cls(match[1], int(match[2]), float(match[3]))

    def __str__(self) -> str:
        return f"{self.sampler}-{self.steps}-{self.guidance:g}"


@dataclass(frozen=True)
class Settings:
    """What is fixed when a run begins. The budget is in processor seconds or in images: one is None."""

    contender: str
    size: str
    seed: int
    batch_images: int
    learning_rate: float
    budget_seconds: float | None
    budget_images: int | None

    def done(self, seconds: float, images: int) -> float:
        """The share of the budget that is used up, 1 and more at the end."""
        if self.budget_seconds is not None:
            return seconds / self.budget_seconds
        assert self.budget_images is not None
        return images / self.budget_images


class Contender(Protocol):
    """A network under training. Its randomness comes from torch's global generator, which the caller seeds."""

    @property
    def parameters(self) -> int:
        """How many numbers the network learns."""

    def step(self, pixels: Tensor, labels: Tensor, done: float) -> float:
        """Train on (B, C, H, W) uint8 and (B,) int64; done: share of the budget used up; returns the loss."""

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs: tensors, numbers, and containers of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""

    def draw(self, labels: Tensor, choice: Choice) -> Tensor:
        """Images (B, C, H, W) in -1..1 of the classes (B,), by the averaged weights."""


class Library(Protocol):
    """A module below `bench.peers` that wraps one library."""

    TITLE: str
    SIZES: Sequence[str]
    BATCH_IMAGES: int
    LEARNING_RATE: float
    CHOICES: Sequence[str]

    def build(self, settings: Settings, classes: int, channels: int, side: int) -> Contender:
        """A new network for images (channels, side, side); torch's global generator decides its weights."""

    def version(self) -> str:
        """The library's version."""


LIBRARIES = ("diffusers_unet", "classifier_free_guidance")


def library(name: str) -> Library:
    """The wrapper of that name; imported when asked for, since each runs in the peers' environment only."""
    module: Any = import_module(f"bench.peers.{name}")
    wrapper: Library = module
    return wrapper
