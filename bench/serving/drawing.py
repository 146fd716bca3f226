"""How a peer draws: the same network, sampler and pictures as Darkroom's, through the package `darkroom`."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

import darkroom
from darkroom.model.images.pictures import png
from darkroom.model.images.pixels import to_pixels
from darkroom.model.machine.threads import compute_alone
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.sampling_fit import fitted_for_user

SETTINGS = {"sampler": "ddim", "guidance": 2.0, "guidance_interval": (0.0, 1_000_000.0)}
"""Settings of every request. The interval guides every step."""

WEIGHTS, PROCESSES, BATCH = "BENCH_WEIGHTS", "BENCH_PROCESSES", 16
"""Environment variables of a peer: its weights file, and its number of processes. The most images of a batch."""


class Row(BaseModel):
    """An image to draw."""

    label: int
    seed: int
    index: int
    steps: int


class Request(BaseModel):
    """The body of a request to a peer."""

    rows: list[Row]


def hosted() -> "Model":
    """Return the model that a peer hosts. The environment names its weights file.

    As in Darkroom, the network then has all threads, and PyTorch's operations one.
    """
    compute_alone()
    return Model(Path(os.environ[WEIGHTS]))


class Model:
    """A model that draws batches."""

    def __init__(self, weights: Path) -> None:
        self._model = darkroom.load(weights, device="cpu")

    def draw(self, rows: Sequence[Row]) -> list[str]:
        """Draw the images of a batch together; returns each as a PNG in Base64. Their numbers of steps may differ."""
        denoiser = self._model.denoiser
        settings = {
            steps: fitted_for_user(self._model.header, SETTINGS | {"steps": steps}) for steps in {r.steps for r in rows}
        }
        plans = [
            plan_row(denoiser, settings[row.steps], label=row.label, seed=row.seed, index=row.index) for row in rows
        ]
        return [base64.b64encode(png(image)).decode() for image in to_pixels(sample(denoiser, plans))]

    def draw_each(self, requests: Sequence[Sequence[Row]]) -> list[list[str]]:
        """Draw the images of several requests in one batch; returns those of each."""
        images = iter(self.draw([row for rows in requests for row in rows]))
        return [[next(images) for _ in rows] for rows in requests]
