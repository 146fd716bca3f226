"""Law of hints: one that is sent after a job was committed wakes an idle worker, and the job begins."""

from pathlib import Path

import pytest

from darkroom.store.hints import celery_app
from tests.processes import wait_until
from tests.system.hinted import hinted

JOBS = 60


@pytest.mark.parametrize("delay_seconds", [0.0, 0.002])
def test_no_job_is_left_to_an_idle_workers_next_look(tmp_path: Path, delay_seconds: float) -> None:
    """The worker never looks by itself here: a job whose hint is spent in vain never ends."""
    with hinted(tmp_path, delay_seconds) as parts:
        old_form = celery_app(parts.cluster.redis.url)
        for seconds in (60.0, -60.0):  # what an earlier version has left in the queue
            old_form.send_task("darkroom.run_next_job", queue="darkroom", expires=seconds)
        for _ in range(JOBS):
            job_id = parts.submit()
            wait_until(lambda job_id=job_id: parts.ended(job_id), f"job {job_id} ends")


def test_a_hint_that_an_earlier_version_let_expire_wakes_the_worker_too(tmp_path: Path) -> None:
    """No other one is sent while it waits in the queue."""
    with hinted(tmp_path, 0.0) as parts:
        job_id = parts.queue()
        celery_app(parts.cluster.redis.url).send_task("darkroom.run_next_job", queue="darkroom", expires=-60.0)
        wait_until(lambda: parts.ended(job_id), "the job ends")
