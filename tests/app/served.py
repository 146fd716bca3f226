"""Runs the real service on a real socket, with a tiny random model in place of the shipped one."""

import base64
import json
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image
from torch import Tensor

from darkroom.app.engine.engine import Engine
from darkroom.app.http.protocol import ProblemProtocol
from darkroom.app.main import create_app
from darkroom.app.settings import Settings
from darkroom.model.checkpoint import (
    CheckpointHeader,
    SnapshotHeader,
    decode_checkpoint,
    encode_checkpoint,
    read_metadata,
)
from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.diffusion.unet import UNet
from darkroom.model.digest import digest_of
from darkroom.store.checkpoint_repository import register_checkpoint
from darkroom.store.database import Database
from darkroom.store.tables import CheckpointSource
from tests.model.small import awaken, small_model
from tests.processes import PATIENCE_SECONDS, wait_until

CLASS_NAMES = ("Zero", "One", "T-shirt/top", "Größe")
SIDE = 8
SCHEDULE_STEPS = 500
SAMPLING = {"guidance": 2.0, "sampler": "ddim", "steps": 4}

Json = dict[str, Any]


def tiny_weights(
    name: str = "tiny",
    seed: int = 0,
    class_names: tuple[str, ...] = CLASS_NAMES,
    *,
    snapshot_seed: int | None = None,
    undrawn: tuple[int, ...] = (),
    **sampling: Any,
) -> bytes:
    """Return a weights file whose network depends on image, time and class; with a snapshot if `snapshot_seed` is set.

    sampling: the model's own settings where they differ from SAMPLING.
    """
    schedule = ScheduleConfig(steps=SCHEDULE_STEPS)
    model = small_model(prediction="v", schedule=schedule, width=8, multipliers=(1,), attention_resolutions=())
    network = UNet(model, len(class_names))
    awaken(network, seed)
    header = CheckpointHeader(
        name=name,
        model=model,
        sampling=SamplingConfig(**{**SAMPLING, **sampling}),
        class_names=class_names,
        undrawn=undrawn,
        images_seen=1000,
        dataset_digest=digest_of(b"none"),
        metrics={"fid": 12.5},
    )
    if snapshot_seed is None:
        return encode_checkpoint(header, network.state_dict())
    snapshot = UNet(model, len(class_names))
    awaken(snapshot, snapshot_seed)
    carrying = header.model_copy(update={"snapshot": SnapshotHeader(images_seen=1000)})
    return encode_checkpoint(carrying, network.state_dict(), snapshot.state_dict())


def diverged_weights(name: str = "tiny", factor: float = float("nan")) -> bytes:
    """Return weights with one tensor multiplied by `factor`: NaN, or so large that images are not finite."""
    good = decode_checkpoint(tiny_weights(name, 5), source="good")
    return encode_checkpoint(good.header, {**good.weights, "head.weight": good.weights["head.weight"] * factor})


DIVERGED = {"nan": float("nan"), "inf": float("inf"), "finite, but images are not": 1e38}
"""Factors for `diverged_weights`."""


def weights_folder(folder: Path, **names_and_seeds: int) -> Path:
    """Fill a folder with tiny weights, one file for each name (default: `tiny`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (names_and_seeds or {"tiny": 0}).items():
        (folder / f"{name}.safetensors").write_bytes(tiny_weights(name, seed))
    return folder


def store_weights(
    database: Database, data: bytes, source: CheckpointSource = "shipped", name: str | None = None
) -> str:
    """Register a weights file as the next version of a model (default: the one it names) and return its digest."""
    header = CheckpointHeader.model_validate_json(read_metadata(data, source="test")["darkroom"])
    with database.session() as session:
        return register_checkpoint(
            session,
            model_name=name or header.name,
            data=data,
            configuration=header.model.model_dump(mode="json"),
            class_names=header.class_names,
            images_seen=header.images_seen,
            metrics=header.metrics,
            source=source,
        ).digest


class Service:
    """A running service. client: sends requests to it; url: its address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False)

    def generate(self, **body: Any) -> Json:
        """POST /generate with format json, which must succeed."""
        answer = self.client.post("/v1/generate", json={"class": "One", "format": "json"} | body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def images(self, **body: Any) -> np.ndarray:
        """Return the images (N, H, W, C) of a request."""
        return pixels_of(self.generate(**body))

    def gauge(self, name: str) -> float:
        """Return the value of a Prometheus metric without labels."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"there is no Prometheus metric {name}")

    def rows(self) -> float:
        """Return the number of rows that the engine holds."""
        return self.gauge("darkroom_rows_waiting") + self.gauge("darkroom_rows_running")


@contextmanager
def serving(weights: Path, *, wait_until_ready: bool = True, port: int = 0, **settings: Any) -> Iterator[Service]:
    """Run the service under uvicorn, in a thread of this process. port: 0 takes any free one."""
    settings = {"state_folder": weights.parent / "state", **settings}
    application = create_app(Settings(weights_folder=weights, device="cpu", **settings))
    config = uvicorn.Config(
        application,
        port=port,
        http=ProblemProtocol,
        ws="none",
        log_level="error",
        timeout_graceful_shutdown=2,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "uvicorn started")
        port = server.servers[0].sockets[0].getsockname()[1]
        service = Service(f"http://127.0.0.1:{port}")
        with service.client:
            if wait_until_ready:
                wait_until(lambda: service.client.get("/readyz").status_code == 200, "ready")
            yield service
    finally:
        server.should_exit = True
        thread.join()


class Pace:
    """The pace of a service's networks: each call takes `seconds` longer, and waits until `open` is set.

    turns: if set, each call takes one, so that the test decides when the engine makes the next step.
    """

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.turns: threading.Semaphore | None = None
        self.seconds = 0.0
        self.calls = 0

    def slowed(self, network: Network) -> Network:
        """Return a network that keeps this pace."""

        def slow(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            self.calls += 1
            assert self.open.wait(PATIENCE_SECONDS), "the test did not set `open` in time"
            if self.turns is not None:
                assert self.turns.acquire(timeout=PATIENCE_SECONDS), "the test gave no turn in time"
            time.sleep(self.seconds)
            return network(x, t, labels)

        return slow


@contextmanager
def serving_slowly(weights: Path, **settings: Any) -> Iterator[tuple[Service, Pace]]:
    """Run the service with networks whose pace the test controls."""
    pace = Pace()
    load = Engine.load

    def slowly(engine: Engine, version: str, denoiser: Denoiser) -> Future[None]:
        denoiser.network = pace.slowed(denoiser.network)
        if denoiser.snapshot is not None:
            denoiser.snapshot = pace.slowed(denoiser.snapshot)
        return load(engine, version, denoiser)

    Engine.load = slowly  # type: ignore[method-assign]
    try:
        with serving(weights, **settings) as service:
            try:
                yield service, pace
            finally:
                pace.seconds = 0.0
                pace.open.set()
    finally:
        Engine.load = load  # type: ignore[method-assign]


def picture(data: bytes) -> np.ndarray:
    """Decode a picture to (H, W, C) uint8."""
    pixels = np.asarray(Image.open(BytesIO(data)))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def pixels_of(answer: Json) -> np.ndarray:
    """Return the images (N, H, W, C) of a JSON answer."""
    return np.stack([picture(base64.b64decode(image["png"])) for image in answer["images"]])


def png_facts(data: bytes) -> Json:
    """Return the facts inside a PNG of the service."""
    facts: Json = json.loads(Image.open(BytesIO(data)).info["darkroom"])
    return facts


def cut_grid(sheet: np.ndarray, count: int, columns: int, gap: int = 2) -> np.ndarray:
    """Cut a grid into its images (N, H, W, C)."""
    cells = []
    for position in range(count):
        top, left = (gap + part * (SIDE + gap) for part in divmod(position, columns))
        cells.append(sheet[top : top + SIDE, left : left + SIDE])
    return np.stack(cells)


def zip_images(data: bytes) -> tuple[np.ndarray, Json]:
    """Return the images of a zip in the order of its manifest, and the manifest."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.testzip() is None
        manifest: Json = json.loads(archive.read("manifest.json"))
        return np.stack([picture(archive.read(image["file"])) for image in manifest["images"]]), manifest


def events_of(text: str) -> list[tuple[str, Json]]:
    """Return (event, data) of a whole stream of server-sent events."""
    return list(events_in(text.splitlines()))


def events_in(lines: Iterable[str]) -> Iterator[tuple[str, Json]]:
    """Yield (event, data) of a stream of server-sent events, as they arrive."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
