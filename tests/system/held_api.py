"""The API, whose models warm up only once a file exists: uvicorn calls `application`."""

import os
import time
from pathlib import Path

import torch
from fastapi import FastAPI
from torch import Tensor

import darkroom.app.versions.catalog as catalog
from darkroom.app import main
from darkroom.model.diffusion.denoiser import Network

APPLICATION = "tests.system.held_api:application"
FILE = "WARM_UP_FILE"
"""Environment variable with the file for which the warm-up waits."""

_prepare = catalog.prepare_network


def _held(network: Network, device: torch.device, *, compiled: bool) -> Network:
    prepared = _prepare(network, device, compiled=compiled)

    def waiting(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        while not Path(os.environ[FILE]).exists():
            time.sleep(0.05)
        return prepared(x, t, labels)

    return waiting


def application() -> FastAPI:
    """Return the application."""
    catalog.prepare_network = _held
    return main.application()
