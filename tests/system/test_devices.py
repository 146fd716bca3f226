"""Laws of jobs on several devices (here two CPU processes): they learn like one process, and end together."""

import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from darkroom.app.embedded.process_commands import worker_commands
from darkroom.model.config import Recipe
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.job_repository import request_cancel
from darkroom.store.run_repository import job_checkpoints, job_curve, kept_states
from darkroom.store.worker_repository import workers_alive
from tests.model.small import small_unet
from tests.processes import free_port, living, wait_until
from tests.system.cluster import Cluster, cluster, signal_all
from tests.system.test_jobs import last_weights, long_recipe

POINTS = 1000
"""More points than a training curve has, so that none is left out."""


def recipe(devices: int = 2, **changes: Any) -> Recipe:
    """A recipe with six checkpoints, without dropout, whose random numbers differ between processes."""
    tiny = small_unet(width=8, multipliers=(1,), attention_resolutions=(), norm_groups=2, dropout=0.0)
    settings = {
        "model__unet": tiny.model_dump(),
        "training__devices": devices,
        "training__total_images": 2400,
        "training__checkpoint_every_images": 400,
        "training__sample_every_images": 2400,
    }
    return long_recipe(**(settings | changes))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("devices"), "first") as running:
        yield running


@pytest.fixture(scope="module")
def dataset_id(running: Cluster) -> int:
    return running.register()


@pytest.fixture(scope="module")
def undisturbed(running: Cluster, dataset_id: int) -> int:
    """A finished job on two devices, without faults."""
    job_id = running.submit(recipe(), dataset_id)
    seen: set[int] = set()

    def ended() -> bool:
        seen.update(running.ranks(job_id))
        return running.job(job_id).status not in ("queued", "running")

    wait_until(ended, "the job ends")
    done = running.job(job_id)
    assert (done.status, done.attempt, done.images_done) == ("succeeded", 1, 2400), done.failure
    assert seen == {0, 1}
    return job_id


def curve(running: Cluster, job_id: int) -> list[CurvePoint]:
    with running.database.session() as session:
        return list(job_curve(session, job_id, POINTS))


def wait_for_a_checkpoint(running: Cluster, job_id: int) -> None:
    def saved() -> bool:
        with running.database.session() as session:
            return bool(job_checkpoints(session, job_id))

    wait_until(saved, "a checkpoint")


def test_two_devices_learn_what_one_learns(running: Cluster, dataset_id: int, undisturbed: int) -> None:
    alone = running.submit(recipe(devices=1), dataset_id, model_name="alone")
    assert running.wait_for(alone, "succeeded", "failed").status == "succeeded"
    one, two = curve(running, alone), curve(running, undisturbed)
    assert len(one) == 15  # a curve point every 20 iterations of 8 images
    assert [line.images_seen for line in two] == [line.images_seen for line in one]
    assert [line.loss for line in two] == pytest.approx([line.loss for line in one], rel=1e-5)
    assert [line.learning_rate for line in two] == [line.learning_rate for line in one]


def test_when_one_process_is_killed_all_end_and_the_job_goes_on_to_the_same_weights(
    running: Cluster, dataset_id: int, undisturbed: int
) -> None:
    job_id = running.submit(recipe(), dataset_id, model_name="killed")
    wait_for_a_checkpoint(running, job_id)
    first = set(running.work_processes())
    signal_all([running.ranks(job_id)[1]], signal.SIGKILL)
    wait_until(lambda: not living(first), "the other process and the launcher end")
    done = running.wait_for(job_id, "succeeded", "failed")
    assert (done.status, done.attempt) == ("succeeded", 2), done.failure
    assert last_weights(running, job_id) == last_weights(running, undisturbed)
    assert curve(running, job_id)[-1].loss == curve(running, undisturbed)[-1].loss


def test_the_processes_end_with_their_launcher(running: Cluster, dataset_id: int) -> None:
    job_id = running.submit(recipe(), dataset_id, model_name="launched", max_attempts=1)
    wait_until(lambda: len(running.ranks(job_id)) == 2, "two processes")
    ranks = set(running.ranks(job_id).values())
    (launcher,) = set(running.work_processes()) - ranks
    signal_all([launcher], signal.SIGKILL)
    wait_until(lambda: not living(ranks), "its processes end")
    failed = running.wait_for(job_id, "succeeded", "failed")
    assert (failed.status, failed.failure and failed.failure["kind"]) == ("failed", "crashed")


def test_cancelling_writes_a_checkpoint_and_leaves_no_process(running: Cluster, dataset_id: int) -> None:
    job_id = running.submit(recipe(training__total_images=24000), dataset_id, model_name="cancelled")
    wait_until(lambda: running.job(job_id).images_done > 0, "some progress")
    with running.database.session() as session:
        request_cancel(session, job_id)
    stopped = running.wait_for(job_id, "cancelled", "succeeded", "failed")
    assert (stopped.status, stopped.attempt, stopped.failure) == ("cancelled", 1, None)
    assert not running.work_processes()
    with running.database.session() as session:
        assert kept_states(session, job_id)[0][0] == stopped.images_done


def test_a_worker_whose_device_is_gone_takes_no_job_and_says_so(running: Cluster, dataset_id: int) -> None:
    port = free_port()
    settings = {"NAME": "broken", "DEVICE": "cuda"}
    told = {f"DARKROOM_WORKER_{name}": value for name, value in settings.items()}
    command = worker_commands()["worker"]
    running.run("broken", command, CUDA_VISIBLE_DEVICES="", DARKROOM_METRICS_PORT=str(port), **told)

    def faults() -> dict[str, str | None]:
        with running.database.session() as session:
            return {worker.name: worker.device_fault for worker in workers_alive(session, 60.0)}

    wait_until(lambda: "broken" in faults(), "it lives")
    assert faults()["first"] is None
    fault = faults()["broken"]
    assert fault is not None
    assert "CUDA driver" in fault
    for number in range(4):
        job_id = running.submit(recipe(devices=1, training__total_images=8), dataset_id, model_name=f"auto-{number}")
        running.send_hints(2)
        done = running.wait_for(job_id, "succeeded", "failed")
        assert (done.status, done.attempt) == ("succeeded", 1), done.failure
    assert "darkroom_worker_device_up 0.0" in httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    log = (running.folder / "broken.log").read_text()
    assert log.count(f"no job is claimed: {fault}") == 1
    running.end("broken")
