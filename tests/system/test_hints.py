"""Law of hints: a hint sent after a job's commit wakes an idle worker, which then claims the job."""

from pathlib import Path

import pytest

from darkroom.store.hints import celery_app
from tests.processes import wait_until
from tests.system.hinted import hinted

JOBS = 60


@pytest.mark.parametrize("delay_seconds", [0.0, 0.002])
def test_no_job_is_left_to_an_idle_workers_next_look(tmp_path: Path, delay_seconds: float) -> None:
    """This worker never looks for jobs without a hint, so a job whose hint is lost never ends."""
    with hinted(tmp_path, delay_seconds) as parts:
        old_form = celery_app(parts.cluster.redis.url)
        for seconds in (60.0, -60.0):  # hints that an earlier version has left in the queue
            old_form.send_task("darkroom.run_next_job", queue="darkroom", expires=seconds)
        for _ in range(JOBS):
            job_id = parts.submit()
            wait_until(lambda job_id=job_id: parts.ended(job_id), f"job {job_id} ends")


def test_a_hint_that_an_earlier_version_let_expire_wakes_the_worker_too(tmp_path: Path) -> None:
    """Nobody sends another hint while this one waits in the queue."""
    with hinted(tmp_path, 0.0) as parts:
        job_id = parts.queue()
        celery_app(parts.cluster.redis.url).send_task("darkroom.run_next_job", queue="darkroom", expires=-60.0)
        wait_until(lambda: parts.ended(job_id), "the job ends")
