"""A worker whose trainings rest between two steps, so that they take a while with little of the processor.

`python -m tests.system.paced` is the worker; with arguments it is one of its work processes.
"""

import os
import sys
import time
from dataclasses import replace

from darkroom.worker import entry
from darkroom.worker.celery_app import Worker
from darkroom.worker.celery_app import main as worker_main

MODULE = "tests.system.paced"
PAUSE = "STEP_PAUSE_SECONDS"
"""Environment variable with the pause after each step."""


def work_main(arguments: list[str]) -> None:
    """Do the work; a training asks after each step whether it should stop, and rests then."""
    from darkroom.worker import training
    from darkroom.worker.attempt import Attempt

    train_job = training.train_job

    def paced(attempt: Attempt) -> bool:
        def should_stop() -> bool:
            time.sleep(float(os.environ[PAUSE]))
            return attempt.should_stop()

        return train_job(replace(attempt, should_stop=should_stop))

    training.train_job = paced
    entry.main(arguments)


if __name__ == "__main__":
    if sys.argv[1:]:
        work_main(sys.argv[1:])
    else:
        worker_main(lambda settings: Worker(settings, (sys.executable, "-m", MODULE)))
