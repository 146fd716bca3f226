"""Joins a training of two processes, of which the second waits or fails: `torchrun ... late_rank WHERE`.

WHERE: group (the second one never joins), network (it joins, and never wraps its network), or error (it raises there).
"""

import sys
import threading
from datetime import timedelta

import torch

from darkroom.model.training import distributed
from darkroom.model.training.distributed import averaging_gradients, launched_rank, process_group


def main(where: str) -> None:
    late = launched_rank() == 1
    distributed.MEETING_PATIENCE = timedelta(seconds=300 if where == "error" else 2)
    if late and where == "group":
        threading.Event().wait()  # the launcher ends it
    with process_group(torch.device("cpu")) as device:
        if late and where == "network":
            threading.Event().wait()
        if late and where == "error":
            raise ValueError("its data set is damaged")
        averaging_gradients(torch.nn.Linear(1, 1), device)


if __name__ == "__main__":
    main(sys.argv[1])
