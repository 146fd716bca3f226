"""BentoML: adaptive batching. It counts images, and divides a request over several batches where it is larger."""

import os
import sys

import bentoml

from bench.serving.drawing import BATCH, PROCESSES, Row, hosted

LONGEST_SECONDS = 600
"""The longest time of a request. BentoML would cut those that wait, with its default of 60 seconds."""


@bentoml.service(workers=int(os.environ[PROCESSES]), traffic={"timeout": LONGEST_SECONDS})
class Generator:
    """The service."""

    def __init__(self) -> None:
        self.model = hosted()

    @bentoml.api(route="/generate", batchable=True, max_batch_size=BATCH, max_latency_ms=1000 * LONGEST_SECONDS)
    def generate(self, rows: list[Row]) -> list[str]:
        """Draw a batch."""
        return self.model.draw(rows)


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "bench.serving.peers.bento:Generator"]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", sys.argv[1]])
