"""Laws of drawing a shard: interruptions do not change the images, and an old claim writes nothing."""

import signal
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sqlalchemy import func, select, text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from darkroom.model.checkpoint import CheckpointError, decode_checkpoint, encode_checkpoint
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.digest import digest_of
from darkroom.model.images.pictures import Pixels
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import RowPlan, plan_row, sample
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.generate_repository import assemble_what_is_ready, cancel_generate_job
from darkroom.store.job_repository import LeaseLost, cancel_requested, get_job
from darkroom.store.tables import Artifact, Checkpoint
from darkroom.worker import shard_drawing as sampling
from darkroom.worker.shard_drawing import draw_shard
from darkroom.worker.transactions import transact
from tests import warm
from tests.app.served import tiny_weights
from tests.generate_jobs import (
    RUN,
    arrays_of,
    attempt,
    carry_out,
    claim,
    facts_of,
    finish,
    hand_back,
    images_done,
    let_lapse,
    parts,
    rebuilt,
    result,
    retry,
    status,
    submit,
)

STEPS = RUN["sampling"].steps


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PART_IMAGES", 2)


def drawn_at_once() -> Pixels:
    """Draw the images of RUN in one batch."""
    denoiser = decode_checkpoint(tiny_weights(), source="test").denoiser()
    plans = [
        plan_row(denoiser, RUN["sampling"], label=label, seed=RUN["seed"], index=index)
        for label in RUN["class_indices"]
        for index in range(RUN["images_per_class"])
    ]
    return to_pixels(sample(denoiser, plans))


def test_the_images_do_not_depend_on_shards_and_parts(database: Database) -> None:
    images = arrays_of(finish(database, submit(database, shard_images=5)))["images"]
    difference = np.abs(images.astype(int) - drawn_at_once())
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.99
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


@pytest.mark.parametrize("count", [1, STEPS + 2, 3 * STEPS])
def test_a_killed_process_loses_a_part_and_changes_nothing(database: Database, database_url: str, count: int) -> None:
    """The process dies before the first step, within the second part, or before the last step of the third part."""
    number = submit(database, shard_images=6)
    command = [sys.executable, "-m", "tests.worker.killed_shard", database_url, "2", str(count)]
    ended = warm.run(command)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    stored = [(part.first_row, part.digest) for part in parts(database)]
    assert [row for row, _ in stored] == [0, 2][: (count - 1) // STEPS]
    assert images_done(database, number) == 2 * len(stored)

    let_lapse(database)
    carry_out(database, *claim(database))
    assert stored == [(part.first_row, part.digest) for part in parts(database)][: len(stored)]
    killed = finish(database, number)

    whole = finish(database, submit(database, shard_images=6))
    assert digest_of(killed) == digest_of(rebuilt(arrays_of(whole), facts_of(killed)))


def test_progress_grows_part_by_part(database: Database) -> None:
    number = submit(database, shard_images=5)
    seen: list[int] = []
    for _ in range(3):
        job, lease = claim(database)

        def look() -> bool:
            seen.append(images_done(database, number))
            return False

        assert draw_shard(attempt(job, lease, database, look))
    seen.append(images_done(database, number))
    assert seen == sorted(seen)
    assert sorted(set(seen)) == [0, 2, 4, 5, 7, 9, 10, 12]


@pytest.mark.parametrize("asked_until", [1, 2, STEPS, STEPS + 1, 2 * STEPS + 3])
def test_a_stop_takes_effect_before_the_next_step(database: Database, asked_until: int) -> None:
    submit(database, shard_images=6)
    job, lease = claim(database)
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= asked_until

    assert not draw_shard(attempt(job, lease, database, should_stop))
    assert asked == asked_until
    assert len(parts(database)) == (asked_until - 1) // STEPS


def test_a_cancelled_shard_is_drawn_on_when_it_is_asked_for_again(database: Database) -> None:
    number = submit(database, shard_images=6)
    job, lease = claim(database)
    asked = 0

    def cancelled_in_the_second_part() -> bool:
        nonlocal asked
        asked += 1
        with database.session() as session:
            if asked == STEPS + 2:
                cancel_generate_job(session, number)
            return cancel_requested(session, lease)

    assert not draw_shard(attempt(job, lease, database, cancelled_in_the_second_part))
    assert asked == STEPS + 2
    assert status(database, number) == "cancelling"
    hand_back(database, lease)
    assert status(database, number) == "cancelled"
    assert images_done(database, number) == 2

    retry(database, number)
    assert status(database, number) == "running"
    whole = finish(database, submit(database, shard_images=6))
    np.testing.assert_array_equal(arrays_of(finish(database, number))["images"], arrays_of(whole)["images"])


def test_a_part_that_was_lost_is_drawn_as_it_was(database: Database) -> None:
    submit(database, shard_images=6)
    job, lease = claim(database)
    assert draw_shard(attempt(job, lease, database))
    before = {part.first_row: part.digest for part in parts(database)}
    with database.session() as session:
        session.execute(text("DELETE FROM generate_parts WHERE first_row = 2"))
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    assert draw_shard(attempt(job, lease, database, count))
    assert asked == STEPS  # only the lost part was drawn again
    assert {part.first_row: part.digest for part in parts(database)} == before


def test_an_attempt_whose_claim_is_over_writes_nothing(database: Database) -> None:
    number = submit(database)
    job, stale = claim(database)
    let_lapse(database)
    again, lease = claim(database)
    assert again.id == job.id
    with database.session() as session:
        artifacts = session.scalar(select(func.count()).select_from(Artifact))
    with pytest.raises(LeaseLost):
        draw_shard(attempt(job, stale, database))
    assert not parts(database)
    assert images_done(database, number) == 0
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == artifacts
    assert carry_out(database, again, lease)


def test_a_part_is_progress(database: Database) -> None:
    """Failed attempts count towards max_attempts only when no part was drawn between them."""
    submit(database)
    job, _ = claim(database)
    let_lapse(database)
    _, lease = claim(database)
    with database.session() as session:
        assert get_job(session, job.id).failures == 1
    assert draw_shard(attempt(job, lease, database))
    with database.session() as session:
        assert get_job(session, job.id).failures == 0


def test_weights_that_cannot_draw_fail_with_a_cause(database: Database) -> None:
    good = decode_checkpoint(tiny_weights(), source="test")
    broken = {name: torch.full_like(value, float("nan")) for name, value in good.weights.items()}
    for data, fault in ((encode_checkpoint(good.header, broken), "not finite"), (b"no weights", "not a readable")):
        submit(database)
        with database.session() as session:
            checkpoint = session.scalars(select(Checkpoint)).one()
            checkpoint.artifact_digest = Artifacts(session).put(data)
        with pytest.raises(CheckpointError, match=fault):
            draw_shard(attempt(*claim(database), database))
    with database.session() as session:
        session.scalars(select(Checkpoint)).one().artifact_digest = None
    with pytest.raises(CheckpointError, match="cannot be read"):
        draw_shard(attempt(*claim(database), database))
    assert not parts(database)


def test_out_of_memory_makes_batches_smaller_and_the_images_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "PART_IMAGES", 12)
    tried: list[int] = []

    def sample_little(denoiser: Denoiser, plans: Sequence[RowPlan], *, batch_rows: int) -> torch.Tensor:
        tried.append(batch_rows)
        if batch_rows > 4:
            raise torch.OutOfMemoryError("no room")
        return sample(denoiser, plans, batch_rows=batch_rows)

    monkeypatch.setattr(sampling, "sample", sample_little)
    images = arrays_of(finish(database, submit(database, shard_images=6)))["images"]
    assert tried == [32, 16, 8, 4] * 2
    assert np.abs(images.astype(int) - drawn_at_once()).max() <= 1


def test_a_broken_connection_is_no_fault_of_the_transaction(database: Database) -> None:
    tries = 0

    def breaks_once(session: Session) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return tries

    assert transact(database, breaks_once) == 2
    with pytest.raises(DataError):
        transact(database, lambda session: session.execute(text("SELECT 1 / 0")))


def test_what_is_stored_is_ready_only_when_all_is(database: Database) -> None:
    number = submit(database, shard_images=6)
    carry_out(database, *claim(database))
    with database.session() as session:
        assert assemble_what_is_ready(session) == 0
    carry_out(database, *claim(database))
    with database.session() as session:
        assert assemble_what_is_ready(session) == 1
    assert status(database, number) == "running"
    carry_out(database, *claim(database))
    assert status(database, number) == "succeeded"
    assert images_done(database, number) == 12
    assert len(arrays_of(result(database, number))["images"]) == 12
