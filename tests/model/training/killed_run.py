"""Runs a training that ends itself by SIGKILL at a chosen moment.

`python -m tests.model.training.killed_run FOLDER MOMENT COUNT`.

MOMENT `iteration`: after COUNT iterations, which loses the work since the last checkpoint. MOMENT `write`: during the
COUNT-th write of a file, when a part of its bytes is on the disk.
"""

import os
import signal
import sys
from pathlib import Path
from unittest import mock

import torch

from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord
from tests.model.small import random_dataset, small_recipe


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, moment: str, count: int) -> None:
    asked, written = 0, 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        if moment == "iteration" and asked > count:
            die()
        return False

    def fsync(file: int) -> None:
        nonlocal written
        written += 1
        if moment == "write" and written == count:
            os.ftruncate(file, os.fstat(file).st_size // 2)
            die()

    with mock.patch("os.fsync", fsync):
        record = FolderRecord(folder, "small")
        train(small_recipe(), random_dataset(), record, device=torch.device("cpu"), should_stop=should_stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
