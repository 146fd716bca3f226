"""Measures the cost of refusals while the queue is full: `python -m bench.refusals WEIGHTS`.

200 requests of seven or eight images at 1000 steps fill three quarters of the queue. Then 800 connections send a
request at the same moment, and the service refuses all of them: first for lack of room, then because of a deadline. The
first table measures the service: its own time for a refusal (from its log), the client's wait, the time between two
refusals, and the event loop's processor time for one. Beside the refusals it calls /healthz. The second measures the
engine alone: another thread calls it while it computes.
"""

import argparse
import asyncio
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.scheduling import quantile
from bench.service import api, probing
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.engine.queue import KEPT_FREE
from darkroom.app.engine.request import DeadlineUnmeetable, EngineRefusal, Event, QueueFull, RowRequest, SampleRequest
from darkroom.model.checkpoint import load_checkpoint

CONNECTIONS = 800
QUEUE_ROWS = 2048
ROOM = QUEUE_ROWS // KEPT_FREE
STEPS = 1000
HOLDING = 200
"""Requests that fill the queue. An address holds at most half of the requests that the service answers at once."""
SPREAD = [(QUEUE_ROWS - ROOM + number) // HOLDING for number in range(HOLDING)]
"""Number of images in each request that fills the queue."""

CALLS = 200
Json = dict[str, Any]


class _Connection:
    """One open connection to the service. With 800 connections, httpx itself would take most of the time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, body: Json) -> None:
        """POST /generate."""
        data = json.dumps(body).encode()
        head = "POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    async def status(self) -> int:
        """Read the answer and return its status."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        await self._reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        return int(head.split()[1])

    async def refused(self, body: Json) -> float:
        """Send a request that must be refused; returns the seconds until the answer."""
        began = time.perf_counter()
        self.send(body)
        status = await self.status()
        assert status in (429, 503), status
        return time.perf_counter() - began

    def close(self) -> None:
        self._writer.close()


async def _crowd(
    port: int, pid: int, bodies: Sequence[Json], held: Callable[[], int]
) -> tuple[list[tuple[list[float], float, float]], list[float]]:
    """Fill the queue, then send each body on all connections.

    Returns by body the seconds of each connection, the seconds until the last, and the event loop's processor seconds;
    and the seconds of the probes beside them. pid: of the service.
    """
    holding = [await _Connection.to(port) for _ in range(HOLDING)]
    for number, (one, images) in enumerate(zip(holding, SPREAD, strict=True)):
        one.send({"class": 0, "n": images, "seed": number, "steps": STEPS, "spacing": "trailing"})
    while await asyncio.to_thread(held) < QUEUE_ROWS - ROOM:
        await asyncio.sleep(0.5)
    asking = [await _Connection.to(port) for _ in range(CONNECTIONS)]
    found = []
    with probing(f"http://127.0.0.1:{port}", 0.02) as probed:
        for body in bodies:
            began, spent = time.perf_counter(), _loop_seconds(pid)
            seconds = await asyncio.gather(*(one.refused(body) for one in asking))
            found.append((seconds, time.perf_counter() - began, _loop_seconds(pid) - spent))
    for one in (*holding, *asking):
        one.close()
    return found, probed


def _loop_seconds(pid: int) -> float:
    """Return the processor time of a process's main thread, which runs the event loop."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _percentiles(seconds: Sequence[float]) -> str:
    return f"{1e3 * quantile(seconds, 0.5):.2f} | {1e3 * quantile(seconds, 0.99):.2f}"


def _of_service(weights: Path) -> None:
    asked: dict[str, Json] = {
        f"queue full, {ROOM + 1} images": {"class": 0, "n": ROOM + 1},
        "queue full, 1000 images": {"class": 0, "n": 1000},
        f"deadline, {ROOM} images": {"class": 0, "n": ROOM, "deadline_seconds": 1.0},
    }
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with api(weights, log, DARKROOM_QUEUE_SECONDS="1e9") as (client, process):

            def held() -> int:
                lines = (line.split() for line in client.get("/metrics").text.splitlines())
                return int(sum(float(line[1]) for line in lines if line[0] in _HELD))

            assert client.base_url.port is not None
            found, probed = asyncio.run(_crowd(client.base_url.port, process.pid, list(asked.values()), held))
        told = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    worked = [line["seconds"] for line in told if line.get("status") in (429, 503) and line.get("route") == "/generate"]
    print("| refusal | in the service, ms: p50 | p99 | at the client, ms: p50 | p99 | ms per refusal | processor, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for number, (name, (seconds, whole, spent)) in enumerate(zip(asked, found, strict=True)):
        own = worked[number * CONNECTIONS : (number + 1) * CONNECTIONS]
        each = f"{1e3 * whole / CONNECTIONS:.2f} | {1e3 * spent / CONNECTIONS:.2f}"
        print(f"| {name} | {_percentiles(own)} | {_percentiles(seconds)} | {each} |")
    print(f"\n/healthz beside them, ms: p50 | p99: {_percentiles(probed)}, max {1e3 * max(probed):.1f}")


_HELD = ("darkroom_rows_waiting", "darkroom_rows_running")


def _ignore(event: Event) -> None:
    pass


def _of_engine(weights: Path) -> None:
    checkpoint = load_checkpoint(weights)
    settings = checkpoint.header.sampling.model_copy(update={"steps": STEPS, "spacing": "trailing"})
    engine = Engine(EngineLimits(queue_seconds=math.inf))
    engine.start()
    engine.load(checkpoint.digest, checkpoint.denoiser()).result()

    def request(images: int, seed: int, deadline: float | None = None) -> SampleRequest:
        rows = tuple(RowRequest(0, seed, index, settings) for index in range(images))
        return SampleRequest(checkpoint.digest, rows, deadline)

    for number, images in enumerate(SPREAD):
        engine.submit(request(images, number), _ignore)

    def refused(wanted: SampleRequest, kind: type[EngineRefusal]) -> float:
        time.sleep(0.005)
        began = time.perf_counter()
        try:
            engine.submit(wanted, _ignore)
        except kind:
            return time.perf_counter() - began
        raise AssertionError("it was taken")

    print("\n| engine.submit | ms: p50 | p99 |\n| --- | ---: | ---: |")
    for name, wanted, kind in (
        (f"queue full, {ROOM + 1} images", request(ROOM + 1, 0), QueueFull),
        ("queue full, 1000 images", request(1000, 0), QueueFull),
        ("deadline, 1 image", request(1, 0, 1.0), DeadlineUnmeetable),
        (f"deadline, {ROOM} images", request(ROOM, 0, 1.0), DeadlineUnmeetable),
    ):
        print(f"| {name} | {_percentiles([refused(wanted, kind) for _ in range(CALLS)])} |", flush=True)
    engine.stop(0.0)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    weights = parser.parse_args().weights
    _of_service(weights)
    _of_engine(weights)


if __name__ == "__main__":
    main()
