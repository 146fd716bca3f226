"""Starts a work process with the standard library alone: ties its life to the parent's, then does the work.

Called as `python -m darkroom.worker.entry PARENT JOB ATTEMPT FOLDER DEVICES`. With several devices it becomes torchrun,
which starts this entry again for each rank. Ranks run in sessions of their own, so each ties its life to its parent's.
"""

import os
import sys

from darkroom.model.machine.cores import share_of_cores
from darkroom.model.machine.parent_death import die_with


def main(arguments: list[str]) -> None:
    parent, job_id, attempt, folder, devices = arguments
    die_with(int(parent))
    if devices != "1" and "RANK" not in os.environ:
        os.environ.update(share_of_cores(int(devices)))  # torchrun would say 1 thread
        python = [sys.executable, "-P", "-m"]
        torchrun = [*python, "torch.distributed.run", "--standalone", "--nproc-per-node", devices, "--no-python"]
        os.execv(sys.executable, [*torchrun, *python, "darkroom.worker.entry", str(os.getpid()), *arguments[1:]])
    from darkroom.worker.work import work

    work(int(job_id), int(attempt), folder)


if __name__ == "__main__":
    main(sys.argv[1:])
