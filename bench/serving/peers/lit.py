"""LitServe: batches of requests, collected for up to 10 ms, and as many workers as there are processes."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import litserve

from bench.serving.drawing import BATCH, PROCESSES, Row, hosted


class Generator(litserve.LitAPI):
    """The hooks of a request: decode, batch, predict, unbatch, encode. LitServe counts requests, not images."""

    def setup(self, device: str) -> None:
        """Load the model, once in each worker."""
        self.model = hosted()

    def decode_request(self, request: dict[str, Any]) -> list[Row]:
        """Return the rows of a body."""
        return [Row(**row) for row in request["rows"]]

    def batch(self, inputs: Sequence[list[Row]]) -> Sequence[list[Row]]:
        """Keep the requests of a batch apart: they have different numbers of images."""
        return inputs

    def predict(self, inputs: Sequence[list[Row]]) -> list[list[str]]:
        """Draw a batch."""
        return self.model.draw_each(inputs)

    def unbatch(self, output: list[list[str]]) -> list[list[str]]:
        """Return the answers of a batch."""
        return output

    def encode_response(self, output: list[str]) -> list[str]:
        """Return an answer."""
        return output


if __name__ == "__main__":
    litserve.LitServer(
        Generator(api_path="/generate", max_batch_size=BATCH, batch_timeout=0.01),
        accelerator="cpu",
        workers_per_device=int(os.environ[PROCESSES]),
        timeout=False,
    ).run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
