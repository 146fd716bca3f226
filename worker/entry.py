"""First moments of a work process, with the standard library alone: tie its life to the parent's, then do the work.

`python -m worker.entry PARENT JOB ATTEMPT FOLDER DEVICES`. With several devices it becomes torchrun, which starts this
entry again once a rank.
"""

import os
import sys

from worker.parent_death import die_with


def main(arguments: list[str]) -> None:
    parent, job_id, attempt, folder, devices = arguments
    rank = os.environ.get("RANK")
    die_with(int(parent) if rank is None else os.getppid())
    if devices != "1" and rank is None:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", devices]
        os.execv(sys.executable, [*torchrun, "-m", "worker.entry", *arguments])  # noqa: S606
    from worker.work import work

    work(int(job_id), int(attempt), folder)


if __name__ == "__main__":
    main(sys.argv[1:])
