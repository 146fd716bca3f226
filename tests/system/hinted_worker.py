"""A worker that learns of jobs by hints alone, and whose work is next to nothing. A hint that is lost then is a job
that waits for ever."""

from darkroom.worker.celery_app import Worker, main
from darkroom.worker.settings import WorkerSettings
from tests.worker.light_work import FINISHES


class HintedWorker(Worker):
    """Never looks for jobs by itself."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings, FINISHES)

    def look(self) -> None:
        """Return at once."""


if __name__ == "__main__":
    main(HintedWorker)
