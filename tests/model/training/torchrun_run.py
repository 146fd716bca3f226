"""Runs a training in several processes.

`torchrun --nproc-per-node N -m tests.model.training.torchrun_run FOLDER CHANGES [COUNT]`.

CHANGES: of the small recipe, as JSON. COUNT: number of iterations after which SIGKILL ends the first process.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from darkroom.model.training.distributed import process_group, rank
from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord
from tests.model.small import random_dataset, small_recipe


def main(folder: Path, changes: str, count: int | None) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        if rank() == 0 and count is not None and asked > count:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    torch.set_num_threads(1)
    with process_group(torch.device("cpu")) as device:
        recipe = small_recipe(**json.loads(changes))
        train(recipe, random_dataset(), FolderRecord(folder, "small"), device=device, should_stop=should_stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
