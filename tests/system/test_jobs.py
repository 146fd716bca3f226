"""Laws of jobs on real processes: requests are carried out, jobs survive dead processes, and none runs twice."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from darkroom.model.config import Recipe
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.digest import digest_of
from darkroom.model.training.run import train
from darkroom.store.job_repository import request_cancel, requeue
from darkroom.store.run_repository import job_checkpoints, kept_states, log_after
from tests.model.small import random_dataset, small_recipe, small_unet
from tests.model.training.memory_record import MemoryRecord
from tests.processes import wait_until
from tests.system.cluster import LEASE_SECONDS, Cluster, cluster, signal_all


def long_recipe(**changes: Any) -> Recipe:
    """A recipe that trains for some seconds and saves often."""
    tiny = small_unet(width=8, multipliers=(1,), attention_resolutions=(), norm_groups=2, dropout=0.2)
    settings: dict[str, Any] = {
        "model__unet": tiny.model_dump(),
        "training__total_images": 2400,
        "training__checkpoint_every_images": 400,
        "training__sample_every_images": 2400,
    }
    return small_recipe(**(settings | changes))


@cache
def undisturbed(recipe: Recipe) -> str:
    """Train without faults; returns the digest of the last weights."""
    made = random_dataset(40)
    dataset = replace(made, digest=content_digest(made.images, made.labels, made.class_names))
    record = MemoryRecord()
    train(recipe, dataset, record, device=torch.device("cpu"))
    weights, _ = record.checkpoints[recipe.training.total_images]
    return digest_of(weights)


def last_weights(running: Cluster, job_id: int) -> str:
    with running.database.session() as session:
        return job_checkpoints(session, job_id)[0][1].digest


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with one worker."""
    with cluster(tmp_path_factory.mktemp("cluster"), "first") as running:
        yield running


@pytest.fixture(scope="module")
def dataset_id(one: Cluster) -> int:
    return one.register()


def test_a_job_trains_what_the_command_line_trains(one: Cluster, dataset_id: int) -> None:
    recipe = long_recipe()
    job_id = one.submit(recipe, dataset_id)
    done = one.wait_for(job_id, "succeeded", "failed")
    assert (done.status, done.attempt, done.images_done) == ("succeeded", 1, recipe.training.total_images)
    assert last_weights(one, job_id) == undisturbed(recipe)
    assert not one.work_processes()
    with one.database.session() as session:
        assert any("training begins" in line.line for line in log_after(session, job_id, 0))


def test_cancelling_writes_a_checkpoint_and_resuming_ends_as_if_nothing_had_been(one: Cluster, dataset_id: int) -> None:
    recipe = long_recipe()
    job_id = one.submit(recipe, dataset_id, model_name="cancelled")
    wait_until(lambda: one.job(job_id).images_done > 0, "some progress")
    with one.database.session() as session:
        request_cancel(session, job_id)
    stopped = one.wait_for(job_id, "cancelled", "succeeded")
    assert stopped.status == "cancelled"
    assert not one.work_processes()
    with one.database.session() as session:
        assert kept_states(session, job_id)[0][0] == stopped.images_done
        requeue(session, job_id, was="cancelled")
    done = one.wait_for(job_id, "succeeded", "failed")
    assert (done.status, done.attempt) == ("succeeded", 2)
    assert last_weights(one, job_id) == undisturbed(recipe)


def test_a_worker_that_is_asked_to_end_hands_its_job_back(one: Cluster, dataset_id: int) -> None:
    recipe = long_recipe()
    job_id = one.submit(recipe, dataset_id, model_name="handed-back")
    wait_until(lambda: one.job(job_id).images_done > 0, "some progress")
    one.end("first")
    handed_back = one.job(job_id)
    assert (handed_back.status, handed_back.failures) == ("queued", 0)
    assert not one.work_processes()
    one.start_worker("first")
    done = one.wait_for(job_id, "succeeded", "failed")
    assert (done.status, done.attempt) == ("succeeded", 2)
    assert last_weights(one, job_id) == undisturbed(recipe)


def test_a_supervisor_that_was_stopped_beyond_its_lease_can_write_nothing(one: Cluster, dataset_id: int) -> None:
    recipe = long_recipe(training__total_images=4800)  # longer than the lease
    job_id = one.submit(recipe, dataset_id, model_name="stopped")
    wait_until(lambda: one.job(job_id).images_done > 0, "some progress")
    stale = one.supervisors()
    work = set(one.work_processes())
    signal_all(stale, signal.SIGSTOP)
    try:
        one.start_worker("second")
        wait_until(lambda: one.job(job_id).attempt == 2, "a second attempt")
        assert not work & set(one.work_processes()), "the work of the first attempt goes on beside the second's"
    finally:
        signal_all(stale, signal.SIGCONT)
    done = one.wait_for(job_id, "succeeded", "failed")
    assert (done.status, done.attempt) == ("succeeded", 2)
    assert last_weights(one, job_id) == undisturbed(recipe)
    assert LEASE_SECONDS < 60
    one.kill("second")


def test_a_nan_loss_fails_the_job_with_its_cause_and_keeps_the_last_good_checkpoint(
    one: Cluster, dataset_id: int
) -> None:
    recipe = long_recipe(
        optimizer={"learning_rate": 1e9, "warmup_images": 2000, "decay": "constant"},
        training__checkpoint_every_images=8,
        optimizer__gradient_clip=None,
    )
    job_id = one.submit(recipe, dataset_id, model_name="diverges")
    failed = one.wait_for(job_id, "succeeded", "failed")
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure["kind"] == "diverged"
    assert "learning_rate" in failed.failure["detail"]
    assert failed.attempt == 1
