"""The API, whose models warm up only once a file exists: uvicorn calls `application`."""

import os
import time
from concurrent.futures import Future
from pathlib import Path

from fastapi import FastAPI
from torch import Tensor

from darkroom.app import main
from darkroom.app.engine.engine import Engine
from darkroom.model.diffusion.denoiser import Denoiser

APPLICATION = "tests.system.held_api:application"
FILE = "WARM_UP_FILE"
"""Environment variable with the file for which the warm-up waits."""

_load = Engine.load


def _held(engine: Engine, version: str, denoiser: Denoiser) -> Future[None]:
    network = denoiser.network

    def waiting(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        while not Path(os.environ[FILE]).exists():
            time.sleep(0.05)
        return network(x, t, labels)

    denoiser.network = waiting
    return _load(engine, version, denoiser)


def application() -> FastAPI:
    """Return the application."""
    Engine.load = _held  # type: ignore[method-assign]
    return main.application()
