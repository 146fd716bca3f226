"""Plain FastAPI: each process draws one request at a time, in the order of arrival."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI

from bench.serving.drawing import PROCESSES, Request, hosted


def application() -> FastAPI:
    """Return the application of one process."""
    app, model = FastAPI(), hosted()
    alone = ThreadPoolExecutor(1)  # a lock that keeps the order, and always the same thread computes

    @app.post("/generate")
    async def generate(request: Request) -> list[str]:
        return await asyncio.get_running_loop().run_in_executor(alone, model.draw, request.rows)

    return app


if __name__ == "__main__":
    uvicorn.run(
        "bench.serving.peers.plain:application",
        factory=True,
        port=int(sys.argv[1]),
        workers=int(os.environ[PROCESSES]),
        log_level="warning",
    )
