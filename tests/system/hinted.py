"""PostgreSQL, Redis, a sender of hints, and a worker that learns of jobs by hints alone, over a slow network."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom.app.embedded.process_commands import worker_commands
from darkroom.app.jobs.hint_sender import HintSender
from darkroom.store.database import Database
from darkroom.store.hints import Hints
from darkroom.store.job_repository import get_job, submit_job
from darkroom.store.worker_repository import workers_alive
from tests.processes import wait_until
from tests.system.cluster import Cluster
from tests.system.slow_network import slow_network


@dataclass(frozen=True)
class Hinted:
    """The running parts. database: a direct connection; sender: uses the slow network, like the worker."""

    cluster: Cluster
    sender: HintSender
    network: Database

    def submit(self) -> int:
        """Queue a job as the API does: commit, then hint; returns its id."""
        job_id = self.queue()
        self.sender.send_soon()
        return job_id

    def queue(self) -> int:
        """Queue a job without a hint; returns its id."""
        with self.network.session() as session:
            return submit_job(session, kind="train", model_name="m", configuration={}, total_images=1).id

    def ended(self, job_id: int) -> bool:
        """Return true when the job has succeeded."""
        with self.cluster.database.session() as session:
            return get_job(session, job_id).status == "succeeded"

    def waited_seconds(self, job_id: int) -> float:
        """Return the seconds from the job's submission to its claim."""
        with self.cluster.database.session() as session:
            job = get_job(session, job_id)
        assert job.started_at is not None
        return (job.started_at - job.created_at).total_seconds()


@contextlib.contextmanager
def hinted(folder: Path, delay_seconds: float) -> Iterator[Hinted]:
    """Run an idle worker without jobs. delay_seconds: added to each round trip to PostgreSQL."""
    parts = Cluster(folder, warm=False)
    try:
        with slow_network(parts.postgres.url, folder, delay_seconds) as url:
            network = Database(url)
            sender = HintSender(Hints(parts.redis.url), network)
            sender.start()
            command = [
                part.replace("darkroom.worker.celery_app", "tests.system.hinted_worker")
                for part in worker_commands()["worker"]
                if part != "-P"  # with it, Python finds no tests
            ]
            parts.run("hinted", command, DATABASE_URL=url, DARKROOM_WORKER_DEVICE="cpu")
            wait_until(lambda: _lives(parts), "the worker lives")
            yield Hinted(parts, sender, network)
            sender.stop(10.0)
            network.dispose()
            parts.kill("hinted")
    finally:
        parts.stop()


def _lives(parts: Cluster) -> bool:
    with parts.database.session() as session:
        return bool(workers_alive(session, 60.0))
