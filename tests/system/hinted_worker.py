"""A worker that learns of jobs by hints alone, and does almost no work. If it loses a hint, a job waits for ever."""

from darkroom.worker.celery_app import Worker, main
from darkroom.worker.settings import WorkerSettings
from tests.worker.light_work import FINISHES


class HintedWorker(Worker):
    """Does not look for jobs without a hint."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings, FINISHES)

    def look(self) -> None:
        """Return at once."""


if __name__ == "__main__":
    main(HintedWorker)
