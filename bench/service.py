"""Starts servers for the benches, and stops them."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx

from darkroom.app.embedded.process_commands import api_command

READY_SECONDS = 300.0
STOP_SECONDS = 30.0


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def serving(
    command: Callable[[int], Sequence[str]],
    environment: Mapping[str, str],
    ready: Callable[[httpx.Client], bool],
    log: Path = Path(os.devnull),
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """Start a server and wait until it is ready; yields a client and the process. It ends with all its children.

    command: of the server, by its port. log: file for everything that it prints.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends too
    port = free_port()
    with log.open("w") as written:
        process = subprocess.Popen(
            command(port), env=dict(environment), stdout=written, stderr=written, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as client:
            _wait(client, process, ready)
            yield client, process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], ready: Callable[[httpx.Client], bool]) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if ready(client):
                return
        time.sleep(0.2)
    raise SystemExit("the server is not ready; read its log")


@contextlib.contextmanager
def api(
    weights: Path, log: Path = Path(os.devnull), **environment: str
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """Start Darkroom's API for `weights`, without database and workers. It logs JSON lines to the file `log`.

    environment: variables to set besides.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / weights.name).symlink_to(weights.resolve())
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
        own = {"DARKROOM_WEIGHTS_FOLDER": folder, "DARKROOM_LOG_FORMAT": "json"}
        command = partial(api_command, "127.0.0.1")
        with serving(command, inherited | own | environment, is_ready, log) as running:
            yield running


def is_ready(client: httpx.Client) -> bool:
    """Return True when the service can draw."""
    return client.get("/readyz").is_success


@contextlib.contextmanager
def repeating(action: Callable[[], object], every_seconds: float) -> Iterator[None]:
    """Call `action` on a thread, with this pause before each call, while the block runs.

    Raises at the end of the block what a call raised; such a call is the last one.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_seconds):
            action()

    with ThreadPoolExecutor(1) as executor:
        repeated = executor.submit(repeat)
        try:
            yield
        finally:
            over.set()
        repeated.result()


@contextlib.contextmanager
def probing(url: str, every_seconds: float = 0.25) -> Iterator[list[float]]:
    """Call /healthz on a thread while the block runs; yields the seconds of each call, infinite for one that failed.

    Each call opens a connection of its own, as a probe does, and so waits until the service accepts it.
    """
    seconds = list[float]()
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=url, timeout=60.0, limits=limits, trust_env=False) as client:

        def probe() -> None:
            began = time.perf_counter()
            try:
                client.get("/healthz").raise_for_status()
            except httpx.HTTPError:
                seconds.append(math.inf)
            else:
                seconds.append(time.perf_counter() - began)

        with repeating(probe, every_seconds):
            yield seconds
