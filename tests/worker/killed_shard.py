"""Draws the most urgent shard, and dies by SIGKILL before the COUNT-th step.

python -m tests.worker.killed_shard DATABASE_URL PART_IMAGES COUNT
"""

import os
import signal
import sys
from unittest import mock

import torch

from darkroom.store.database import Database
from darkroom.worker import shard_drawing as sampling
from tests.generate_jobs import attempt, claim


def main(url: str, part_images: int, count: int) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    torch.set_num_threads(1)
    database = Database(url)
    with mock.patch.object(sampling, "PART_IMAGES", part_images):
        sampling.draw_shard(attempt(*claim(database), database, should_stop))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
