"""Ray Serve: `@serve.batch`, whose size counts images, collected for up to 10 ms; a replica for each process."""

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from bench.serving.drawing import PROCESSES, WEIGHTS, Request, Row, hosted

MOST_IMAGES = 32
"""Ray refuses a request that is larger than a batch, so this is the largest request's."""

app = FastAPI()


@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(app)
class Generator:
    """The deployment."""

    def __init__(self) -> None:
        self.model = hosted()
        self.alone = ThreadPoolExecutor(1)

    @serve.batch(
        max_batch_size=MOST_IMAGES,
        batch_wait_timeout_s=0.01,
        batch_size_fn=lambda requests: sum(len(rows) for rows in requests),
    )
    async def draw(self, requests: list[list[Row]]) -> list[list[str]]:
        """Draw a batch, without blocking the event loop that collects the next one."""
        return await asyncio.get_running_loop().run_in_executor(self.alone, self.model.draw_each, requests)

    @app.post("/generate")
    async def generate(self, request: Request) -> list[str]:
        """Draw a request, together with others."""
        answer: Any = await self.draw(request.rows)
        return list(answer)


def main() -> None:
    """Serve until SIGTERM."""
    processes, threads = int(os.environ[PROCESSES]), int(os.environ["OMP_NUM_THREADS"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    names = (WEIGHTS, PROCESSES, "OMP_NUM_THREADS", "PYTHONPATH")
    ray.init(
        num_cpus=processes * threads,
        include_dashboard=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {name: os.environ[name] for name in names}},
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
        replicas = Generator.options(num_replicas=processes, ray_actor_options={"num_cpus": threads})
        serve.run(replicas.bind())
        signal.pause()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
