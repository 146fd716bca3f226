"""Laws under load: a client that leaves frees the engine at once, and many clients all get their right images."""

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.app.served import Service, pixels_of, serving, serving_slowly
from tests.processes import wait_until


@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_a_client_that_left_are_freed(weights: Path, stream: bool) -> None:
    with serving_slowly(weights, default_model="tiny") as (service, pace), ThreadPoolExecutor(1) as pool:
        pace.seconds = 0.02
        other = pool.submit(service.generate, seed=1, steps=100)
        with httpx.Client(base_url=service.url, trust_env=False) as leaver:
            request = {"class": 0, "n": 4, "steps": 500, "stream": stream, "guidance": 2}
            if stream:
                with leaver.stream("POST", "/generate", json=request) as answer:
                    assert answer.status_code == 200
                    next(answer.iter_lines())
                    wait_until(lambda: service.gauge("darkroom_rows_running") >= 1, "rows are running")
            else:
                with pytest.raises(httpx.ReadTimeout):
                    leaver.post("/generate", json=request, timeout=0.5)
        left_at = pace.calls
        wait_until(lambda: service.gauge("darkroom_requests_open") <= 1, "the request has left the engine")
        assert pace.calls - left_at < 300, "the engine finished a request whose client had left"
        expected = other.result()
        pace.seconds = 0.0
        wait_until(lambda: service.rows() == 0, "the engine holds no rows")
        np.testing.assert_array_equal(service.images(seed=1, steps=100), pixels_of(expected))


@pytest.mark.parametrize("path", ["/generate", "/v1/interpolate", "/v1/verify"])
def test_a_client_that_leaves_in_mid_body_is_no_fault_of_the_service(service: Service, path: str) -> None:
    def counted(status: int) -> float:
        start = f'darkroom_http_requests_total{{method="POST",route="{path}",status="{status}"}} '
        lines = service.client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))

    host, port = service.client.base_url.host, service.client.base_url.port
    before, faults = counted(400), counted(500)
    with socket.create_connection((host, port or 80)) as leaver:
        leaver.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 50\r\n\r\n{{".encode())
    wait_until(lambda: counted(400) > before, "the request has ended")
    assert counted(500) == faults


async def _crowd(service: Service, size: int) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=size)
    async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits, trust_env=False) as client:
        requests = [
            {"class": number % 4, "n": 1 + number % 3, "seed": number % 7, "format": "json"} for number in range(size)
        ]
        return await asyncio.gather(*(client.post("/generate", json=request) for request in requests))


async def test_many_clients_at_once_all_get_their_images(weights: Path) -> None:
    size = 200
    with serving(weights, default_model="tiny", queue_rows=100) as service:
        answers = await _crowd(service, size)
        statuses = {answer.status_code for answer in answers}
        assert statuses <= {200, 429}
        assert 200 in statuses
        kept: dict[tuple[int, int], np.ndarray] = {}
        for number, answer in enumerate(answers):
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                continue
            key = (number % 4, number % 7)
            if key not in kept:
                kept[key] = service.images(**{"class": key[0], "seed": key[1], "n": 3})
            images = pixels_of(json.loads(answer.text))
            assert len(images) == 1 + number % 3
            difference = np.abs(images.astype(int) - kept[key][: len(images)])
            assert difference.max() <= 1, "other requests changed the image"
        wait_until(lambda: service.rows() == 0, "the engine holds no rows")
