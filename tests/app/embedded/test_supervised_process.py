"""Law of a supervised process: while it cannot be started, such as on a full disk, nothing else ends."""

import errno
import os
from typing import cast

from darkroom.app.embedded.process import ChildProcess
from darkroom.app.embedded.supervised_process import SupervisedProcess


class Ended:
    """A child that was killed."""

    name = "the worker"
    log = "worker.log"

    def fate(self) -> str:
        return "was killed by SIGKILL"


def test_a_child_that_cannot_be_started_is_tried_again_later() -> None:
    said: list[str] = []
    starts = [True, False, False, True]

    def start() -> ChildProcess:
        if not starts.pop(0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return cast(ChildProcess, Ended())

    supervised = SupervisedProcess(start, spacing_seconds=0.0, say=said.append)
    for _ in range(3):
        supervised.restart_if_due()
    assert starts == []
    restarting = "the worker was killed by SIGKILL; restarting it (log: worker.log)"
    cannot = "the worker cannot start: [Errno 28] No space left on device"
    assert said == [restarting, cannot, restarting, cannot, restarting]
