"""The servers that are compared, each started with a number of processes and OpenMP threads of each."""

import contextlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench.service import api, serving
from bench.serving.drawing import PROCESSES, SETTINGS, WEIGHTS

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CORES = os.cpu_count() or 1
DARKROOM = "Darkroom"
PEERS = {
    "FastAPI": "bench.serving.peers.plain",
    "LitServe": "bench.serving.peers.lit",
    "BentoML": "bench.serving.peers.bento",
    "Ray Serve": "bench.serving.peers.ray_serve",
}
"""Modules by name."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A server in one arrangement."""

    server: str
    processes: int
    threads: int

    @property
    def name(self) -> str:
        """The name in results."""
        return f"{self.server}, {self.processes}x{self.threads}"

    def body(self, images: int, steps: int, seed: int) -> Json:
        """Return the body of a request for `images` images; the seed also chooses the class."""
        if self.server == DARKROOM:
            asked: Json = {"class": seed % 10, "n": images, "seed": seed, "steps": steps, "format": "json"}
            return asked | SETTINGS
        return {"rows": [{"label": seed % 10, "seed": seed, "index": j, "steps": steps} for j in range(images)]}

    def images(self, answer: httpx.Response) -> list[str]:
        """Return the images of an answer, each a PNG in Base64."""
        found = answer.json()
        return [image["png"] for image in found["images"]] if self.server == DARKROOM else found

    @contextlib.contextmanager
    def serving(self, weights: Path, environment: Path, log: Path) -> Iterator[httpx.Client]:
        """Start the server and wait until it draws. environment: the peers'."""
        if self.server == DARKROOM:
            with api(weights, log, OMP_NUM_THREADS=str(self.threads), DARKROOM_DEVICE="cpu") as (client, _):
                yield client
            return
        variables = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(self.threads),
            WEIGHTS: str(weights.resolve()),
            PROCESSES: str(self.processes),
            "BENTOML_HOME": str(environment / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        command = partial(_peer_command, environment, PEERS[self.server])
        with serving(command, os.environ | variables, self._draws, log) as (client, _):
            yield client

    def _draws(self, client: httpx.Client) -> bool:
        return client.post("/generate", json=self.body(1, 1, 0)).is_success


def _peer_command(environment: Path, module: str, port: int) -> list[str]:
    return [str(environment / "bin" / "python"), "-m", module, str(port)]


def contenders() -> list[Contender]:
    """Return Darkroom as it starts by itself, and each peer as one process with all cores and as one on each core."""
    arrangements = dict.fromkeys([(1, CORES), (CORES, 1)])
    return [Contender(DARKROOM, 1, CORES), *(Contender(peer, *way) for peer in PEERS for way in arrangements)]


def make_environment(folder: Path) -> None:
    """Install the peers, unless they are there."""
    done = folder / "installed"
    if done.exists() and done.read_bytes() == REQUIREMENTS.read_bytes():
        return
    print(f"installing the peers in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
    done.write_bytes(REQUIREMENTS.read_bytes())
