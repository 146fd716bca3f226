"""Laws of train jobs, with a process for each attempt: faults are found and named, and good checkpoints are kept."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from darkroom.model.training.run import StateStart, WeightsStart
from darkroom.store.aliases import set_alias
from darkroom.store.artifacts import ArtifactCorrupted, collect_artifacts
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database
from darkroom.store.figure_repository import figures_by, job_figures
from darkroom.store.job_forms import ContinueFrom, ForkFrom, TrainWork
from darkroom.store.job_repository import Claimant, Lease, claim_job, request_cancel, requeue
from darkroom.store.model_repository import PRODUCTION, production_targets, resolve
from darkroom.store.run_repository import job_curve, job_samples
from darkroom.store.tables import Checkpoint, Dataset, Job
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.training import JobRecord
from darkroom.worker.work_output import LOG_LINE_LIMIT
from tests.generate_jobs import status
from tests.generate_jobs import submit as submit_generate
from tests.model.small import small_recipe
from tests.processes import wait_until
from tests.worker.broken_work import NOISE_BYTES
from tests.worker.train_jobs import BATCH, EVERY, TOTAL, TrainJobs, dataset, short_recipe, trained


@pytest.fixture
def jobs(database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainJobs:
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://nobody.invalid",
        "DARKROOM_WORKER_DEVICE": "cpu",
        "DARKROOM_CACHE_FOLDER": str(tmp_path / "cache"),
        "DARKROOM_POLL_SECONDS": "0.05",
        "DARKROOM_NICENESS": "0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return TrainJobs(tmp_path, database, WorkerSettings())


def test_a_damaged_state_is_found_and_the_one_before_leads_to_the_same_end(jobs: TrainJobs, tmp_path: Path) -> None:
    recipe = short_recipe(training__early_verdict="tell")
    job_id = jobs.train_job(recipe, jobs.register())
    jobs.run(f"killed_at={2 * EVERY}")
    assert jobs.outcome(job_id) == ("queued", "crashed", 1)
    older, newest = jobs.state(job_id, EVERY), jobs.state(job_id, 2 * EVERY)

    jobs.flip(older)
    jobs.flip(newest)
    jobs.run()
    assert jobs.outcome(job_id) == ("failed", "checkpoint", 2)
    assert older in jobs.detail(job_id)
    assert newest in jobs.detail(job_id)

    jobs.flip(older)  # repairs the first flip
    with jobs.database.session() as session:
        requeue(session, job_id, was="failed")
    jobs.run()
    assert jobs.outcome(job_id) == ("succeeded", None, 3)
    assert any(f"training goes on after {EVERY} images" in line for line in jobs.log(job_id))
    assert jobs.weights(job_id) == trained(recipe, tmp_path / "undisturbed")
    verdict = jobs.job(job_id).verdict
    assert verdict is not None
    assert verdict["images_seen"] == TOTAL
    assert json.loads((tmp_path / "undisturbed" / "verdict.json").read_text()) == verdict
    assert jobs.saved(job_id)[TOTAL][0].verdict == verdict

    weights = jobs.weights(job_id)
    jobs.get(weights)
    jobs.flip(weights)
    with pytest.raises(ArtifactCorrupted):
        jobs.get(weights)


def test_the_last_the_best_and_the_named_are_kept_and_the_best_is_promoted(jobs: TrainJobs) -> None:
    every, best, named, keep_last = TOTAL // 6, TOTAL // 3, TOTAL // 2, 2
    recipe = short_recipe(training__checkpoint_every_images=every, evaluation={"every_images": every, "images": 2})
    job_id = jobs.train_job(recipe, jobs.register(), work={"keep_last": keep_last}, promote="best")
    jobs.run(f"judged={best},killed_at={named}")
    assert jobs.outcome(job_id) == ("queued", "crashed", 1)
    with jobs.database.session() as session:
        set_alias(session, COMMAND_LINE, recipe.name, "demo", jobs.saved(job_id)[named][0].version)
    jobs.run(f"judged={best}")
    assert jobs.outcome(job_id) == ("succeeded", None, 2)

    saved = jobs.saved(job_id)
    kept = {images for images, (checkpoint, _) in saved.items() if checkpoint.artifact_digest is not None}
    assert kept == {best, named, TOTAL - every, TOTAL}
    assert {images for images, (_, state) in saved.items() if state is not None} == {TOTAL - every, TOTAL}
    metrics = {images: checkpoint.metrics["distance"] for images, (checkpoint, _) in saved.items()}
    assert metrics == {images: abs(images - best) for images in range(every, TOTAL + 1, every)}

    with jobs.database.session() as session:
        assert resolve(session, recipe.name).id == saved[best][0].id
        assert resolve(session, recipe.name, PRODUCTION).id == jobs.job(job_id).best_checkpoint_id
        wanted = {row.digest for row in job_samples(session, job_id)}
        wanted |= {
            digest
            for row in session.execute(select(Dataset.artifact_digest, Dataset.contact_sheet_digest))
            for digest in row
        }
    kinds = [event.kind for event in jobs.events(job_id)]
    assert kinds.count("evaluation") == len(saved)
    promoted, end = jobs.events(job_id)[-2:]
    assert (promoted.kind, promoted.data["digest"]) == ("promoted", saved[best][0].digest)
    assert (end.kind, end.data["status"]) == ("status", "succeeded")
    assert [event.data["checkpoint_id"] for event in jobs.events(job_id) if event.kind == "best"] == [
        saved[every][0].id,
        saved[best][0].id,
    ]

    with jobs.database.session() as session:
        assert collect_artifacts(session) == 0  # too new
    jobs.sql("UPDATE artifacts SET created_at = created_at - interval '1 day'")
    with jobs.database.session() as session:
        collect_artifacts(session)
    wanted |= {
        digest for checkpoint, state in saved.values() for digest in (checkpoint.artifact_digest, state) if digest
    }
    assert jobs.stored() == wanted


def test_what_cannot_be_judged_is_told_and_trained_to_the_end(jobs: TrainJobs) -> None:
    asked = {"every_images": EVERY, "images": 2, "metrics": ["bits_per_dimension"], "bound_images": 1, "bound_times": 2}
    recipe = short_recipe(training__sample_every_images=EVERY, evaluation=asked)
    job_id = jobs.train_job(recipe, jobs.register())
    jobs.run(f"unjudgeable={2 * EVERY}")
    assert jobs.outcome(job_id) == ("succeeded", None, 1)
    assert list(jobs.saved(job_id)) == [EVERY, 2 * EVERY, TOTAL]
    told = [(event.kind, event.data["images_seen"]) for event in jobs.events(job_id) if event.kind != "status"]
    assert [images for kind, images in told if kind == "evaluation"] == [EVERY, TOTAL]
    assert [images for kind, images in told if kind == "samples"] == [EVERY, TOTAL]
    failed = {event.kind: event.data for event in jobs.events(job_id) if event.kind.endswith("_failed")}
    data = {"images_seen": 2 * EVERY, "detail": "OutOfMemoryError: CUDA out of memory"}
    assert failed == {"evaluation_failed": data, "samples_failed": data}
    for what in ("evaluation", "samples"):
        assert any(f"{what} failed after {2 * EVERY} images; the training goes on" in line for line in jobs.log(job_id))


def test_a_data_set_that_vanished_or_changed_fails_the_job_at_once(jobs: TrainJobs, tmp_path: Path) -> None:
    dataset_id = jobs.register()
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((9, 8, 8), np.uint8), labels=np.zeros(9, np.int64))
    with jobs.database.session() as session:
        row = session.get_one(Dataset, dataset_id)
        row.artifact_digest, row.configuration = None, {"format": "npz", "path": str(path)}
    changed = jobs.train_job(short_recipe(), dataset_id)
    jobs.run()
    assert jobs.outcome(changed) == ("failed", "dataset", 1)
    assert "changed since it was registered" in jobs.detail(changed)

    path.unlink()
    vanished = jobs.train_job(short_recipe(), dataset_id)
    jobs.run()
    assert jobs.outcome(vanished) == ("failed", "dataset", 1)
    assert f"{path} vanished" in jobs.detail(vanished)


def test_a_job_whose_data_set_was_deleted_fails_at_once(jobs: TrainJobs) -> None:
    job_id = jobs.train_job(short_recipe(), jobs.register())
    with jobs.database.session() as session:
        session.get_one(Job, job_id).dataset_id = None
    jobs.run()
    assert jobs.outcome(job_id) == ("failed", "dataset", 1)
    assert "was deleted; submit a new job" in jobs.detail(job_id)


def test_full_disks_are_told_from_damage_and_leave_the_last_checkpoint(jobs: TrainJobs) -> None:
    dataset_id = jobs.register()
    worker = jobs.train_job(short_recipe(), dataset_id)
    jobs.run("full_disk")
    assert jobs.outcome(worker) == ("failed", "disk_full", 1)
    assert "worker's disk" in jobs.detail(worker)

    jobs.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    )
    jobs.sql(
        "CREATE TRIGGER full_disk BEFORE INSERT ON job_checkpoints FOR EACH ROW "
        f"WHEN (NEW.images_seen > {EVERY}) EXECUTE FUNCTION refuse()"
    )
    database = jobs.train_job(short_recipe(), dataset_id)
    jobs.run()
    assert jobs.outcome(database) == ("failed", "disk_full", 1)
    assert "database's disk" in jobs.detail(database)
    assert list(jobs.saved(database)) == [EVERY]

    jobs.sql(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'canceling statement' USING ERRCODE = 'query_canceled'; END $$"
    )
    slow = jobs.train_job(short_recipe(), dataset_id, max_attempts=2)
    for attempt, end in ((1, "queued"), (2, "failed")):
        jobs.run("impatient")
        assert jobs.outcome(slow) == (end, "database", attempt), jobs.log(slow)
    assert "gave up a statement of this job 10 times" in jobs.detail(slow)
    assert "canceling statement" in jobs.detail(slow)
    assert list(jobs.saved(slow)) == [EVERY]

    jobs.sql("DROP TRIGGER full_disk ON job_checkpoints")
    with jobs.database.session() as session:
        requeue(session, database, was="failed")
    jobs.run()
    assert jobs.outcome(database) == ("succeeded", None, 2)
    assert any(f"training goes on after {EVERY} images" in line for line in jobs.log(database))


@pytest.mark.parametrize("fault", ["out_of_memory", "out_of_device_memory"])
def test_too_little_memory_is_told_with_what_to_change(jobs: TrainJobs, fault: str) -> None:
    job_id = jobs.train_job(short_recipe(), jobs.register())
    jobs.run(f"{fault}={EVERY + BATCH}")
    assert jobs.outcome(job_id) == ("failed", "out_of_memory", 1)
    assert "training.batch_size" in jobs.detail(job_id)
    assert list(jobs.saved(job_id)) == [EVERY]
    jobs.get(jobs.weights(job_id))


def test_what_kills_its_process_is_tried_less_and_less_often_and_only_without_progress_given_up(
    jobs: TrainJobs,
) -> None:
    job_id = jobs.train_job(short_recipe(), jobs.register(), max_attempts=3)
    for _ in range(2):
        jobs.run("killed")
    assert (jobs.outcome(job_id), jobs.job(job_id).failures) == (("queued", "crashed", 2), 2)
    jobs.run(f"killed_at={EVERY}")  # a third failure, but with a new checkpoint
    assert (jobs.outcome(job_id), jobs.job(job_id).failures) == (("queued", "crashed", 3), 1)
    for _ in range(2):
        jobs.run("killed")
    assert jobs.outcome(job_id) == ("failed", "crashed", 5)
    assert "SIGKILL" in jobs.detail(job_id)
    waits = [event.data["wait_seconds"] for event in jobs.events(job_id) if "wait_seconds" in event.data]
    first, second, after_progress, then = waits
    assert 0 < first < second
    assert (after_progress, then) == (first, second)
    assert list(jobs.saved(job_id)) == [EVERY]


def test_the_time_that_a_job_has_spent_outlives_its_attempt(jobs: TrainJobs) -> None:
    job_id = jobs.train_job(short_recipe(), jobs.register())
    with jobs.database.session() as session:
        job = claim_job(session, Claimant("worker", "cpu"), 600.0)
        assert job is not None
        work, lease = TrainWork.model_validate(job.configuration), Lease(job.id, job.attempt)
    record = JobRecord(jobs.database, job_id, lease, work, ["zero"])
    assert record.spent() == 0.0
    for seconds in (1.0, 7.5):
        record.spend(seconds)
    record.begin(0)  # a new start forgets the curve, and not the time
    record.flush()
    assert JobRecord(jobs.database, job_id, lease, work, ["zero"]).spent() == 7.5


def test_a_finished_job_goes_on_for_longer_and_another_begins_with_its_weights(jobs: TrainJobs, tmp_path: Path) -> None:
    dataset_id = jobs.register()
    parent = jobs.train_job(short_recipe(), dataset_id)
    jobs.run()
    digest = jobs.weights(parent)

    longer = short_recipe(training__total_images=TOTAL + EVERY)
    start = ContinueFrom(job_id=parent, images_seen=TOTAL)
    child = jobs.train_job(longer, dataset_id, work={"start": start}, parent_id=parent, model_name="longer")
    jobs.run()
    assert jobs.outcome(child) == ("succeeded", None, 1)
    assert any(f"training goes on after {TOTAL} images" in line for line in jobs.log(child))
    assert list(jobs.saved(child)) == [TOTAL + EVERY]
    with jobs.database.session() as session:
        assert all(line.images_seen > TOTAL for line in job_curve(session, child, 1000))
    state = StateStart("parent", jobs.get(jobs.state(parent, TOTAL)))
    assert jobs.weights(child) == trained(longer, tmp_path / "longer", state)

    other = short_recipe(training__seed=4)
    fork = jobs.train_job(
        other, dataset_id, work={"start": ForkFrom(model="small", digest=digest)}, parent_id=parent, model_name="fork"
    )
    jobs.run()
    assert jobs.outcome(fork) == ("succeeded", None, 1)
    assert list(jobs.saved(fork)) == [EVERY, 2 * EVERY, 3 * EVERY]
    weights = WeightsStart("parent", jobs.get(digest))
    assert jobs.weights(fork) == trained(other, tmp_path / "fork", weights)
    assert jobs.weights(fork) != trained(other, tmp_path / "new")


def test_every_line_that_a_process_writes_is_stored_whatever_it_holds(jobs: TrainJobs) -> None:
    job_id = jobs.train_job(short_recipe(training__total_images=BATCH), jobs.register())
    jobs.run("noisy")
    assert jobs.outcome(job_id) == ("succeeded", None, 1)
    lines = jobs.log(job_id)
    assert lines[0] == "before"
    assert lines[1] == "nul  byte"
    assert lines[2].endswith(" not UTF-8")
    assert lines[3] == "x" * LOG_LINE_LIMIT
    assert len(lines[3]) < NOISE_BYTES
    assert lines[4:6] == ["", "to standard error"]
    assert lines[-1].endswith("training begins")
    assert jobs.job(job_id).log_line_count == len(lines)


def test_a_cancel_ends_the_process_within_a_step_and_with_a_checkpoint(jobs: TrainJobs, tmp_path: Path) -> None:
    recipe = short_recipe()
    job_id = jobs.train_job(recipe, jobs.register())
    begun = EVERY + 2 * BATCH
    running = threading.Thread(target=jobs.run, args=[f"stuck={begun}"])
    running.start()

    def stuck() -> list[str]:
        return [line for line in jobs.log(job_id) if line.endswith("is stuck")]

    wait_until(lambda: bool(stuck()), "a step that lasts")
    with jobs.database.session() as session:
        request_cancel(session, job_id)
    running.join()
    assert jobs.outcome(job_id) == ("cancelled", None, 1)
    assert jobs.job(job_id).images_done == begun + BATCH  # the current step was finished
    assert list(jobs.saved(job_id)) == [EVERY, begun + BATCH]
    jobs.get(jobs.state(job_id, begun + BATCH))
    with pytest.raises(ProcessLookupError):
        os.kill(int(stuck()[0].split()[1]), 0)

    with jobs.database.session() as session:
        requeue(session, job_id, was="cancelled")
    jobs.run()
    assert jobs.outcome(job_id) == ("succeeded", None, 2)
    assert jobs.weights(job_id) == trained(recipe, tmp_path / "undisturbed")


def test_who_draws_the_last_shard_queues_the_assembly(jobs: TrainJobs) -> None:
    number = submit_generate(jobs.database, shard_images=6)
    for queued in (0, 1):
        jobs.run()
        with jobs.database.session() as session:
            query = select(Job).where(Job.generate_job_id == number, Job.kind == "assemble")
            assert len(session.scalars(query).all()) == queued
    jobs.run()
    assert status(jobs.database, number) == "succeeded"


def test_the_data_set_of_these_tests_is_the_registered_one(jobs: TrainJobs) -> None:
    dataset_id = jobs.register()
    with jobs.database.session() as session:
        assert session.get_one(Dataset, dataset_id).digest == dataset().digest


def test_the_frontier_that_a_recipe_asks_for_is_stored_with_the_last_checkpoint(jobs: TrainJobs) -> None:
    asked = {"every_images": TOTAL, "images": 2, "frontier_steps": [2, 1], "frontier_samplers": ["ddim", "unipc"]}
    job_id = jobs.train_job(short_recipe(evaluation=asked), jobs.register())
    jobs.run()
    assert jobs.outcome(job_id)[0] == "succeeded"
    with jobs.database.session() as session:
        points = [row.figure for _, _, row in job_figures(session, "frontier", job_id)]
        found = {(point.protocol["sampler"], point.protocol["steps"]) for point in points}
        assert found == {("ddim", 1), ("unipc", 1), ("ddim", 2), ("unipc", 2)}
        assert len(job_figures(session, "evaluation", job_id)) == 1, "points are no evaluations"
        last = jobs.saved(job_id)[TOTAL][0]
        stored = figures_by(session, "frontier", Checkpoint.digest, [last.digest])
        assert stored == {last.digest: sorted(points, key=lambda point: point.protocol_digest)}
    assert [event.kind for event in jobs.events(job_id)].count("frontier") == 4


def production(jobs: TrainJobs, model: str) -> str | None:
    """Return the digest of the version in production, if any."""
    with jobs.database.session() as session:
        target = production_targets(session).get(model)
        return None if target is None else target.digest


def test_a_run_that_diverges_keeps_its_last_good_checkpoint_which_others_and_itself_go_on_from(
    jobs: TrainJobs, tmp_path: Path
) -> None:
    recipe, dataset_id = short_recipe(), jobs.register()
    job_id = jobs.train_job(recipe, dataset_id, promote="best")
    jobs.run(f"poisoned={2 * EVERY}")
    assert jobs.outcome(job_id) == ("failed", "diverged", 1)
    told = f"after {2 * EVERY} images; the checkpoint at {EVERY} images is the last good checkpoint."
    assert told in jobs.detail(job_id)
    assert "lower optimizer.learning_rate" in jobs.detail(job_id)
    assert list(jobs.saved(job_id)) == [EVERY]
    assert production(jobs, "small") is None

    slower = short_recipe(optimizer__learning_rate=5e-4)
    start = ContinueFrom(job_id=job_id, images_seen=EVERY)
    child = jobs.train_job(slower, dataset_id, work={"start": start}, parent_id=job_id, model_name="slower")
    jobs.run()
    assert jobs.outcome(child) == ("succeeded", None, 1)
    state = StateStart("parent", jobs.get(jobs.state(job_id, EVERY)))
    assert jobs.weights(child) == trained(slower, tmp_path / "slower", state)

    with jobs.database.session() as session:
        requeue(session, job_id, was="failed")
    jobs.run()
    assert jobs.outcome(job_id) == ("succeeded", None, 2)
    assert jobs.weights(job_id) == trained(recipe, tmp_path / "undisturbed") == production(jobs, "small")


def test_weights_that_draw_nothing_finite_are_neither_kept_nor_promoted(jobs: TrainJobs) -> None:
    """At this learning rate all losses and weights of the short run are finite, but its images are not."""
    too_fast = {"learning_rate": 2000.0, "warmup_images": 0, "decay": "constant"}
    recipe = small_recipe(optimizer=too_fast, training__total_images=16, training__batch_size=8)
    job_id = jobs.train_job(recipe, jobs.register(), promote="best")
    jobs.run()
    assert jobs.outcome(job_id) == ("failed", "diverged", 1)
    assert "draws images that are not finite after 16 images" in jobs.detail(job_id)
    assert not jobs.saved(job_id)
    assert production(jobs, "small") is None
