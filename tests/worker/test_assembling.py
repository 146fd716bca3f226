"""Laws of assembling: order and repetition do not change the result, and it never has damaged images."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from darkroom.model.digest import digest_of
from darkroom.store.artifacts import collect_artifacts
from darkroom.store.clock import seconds
from darkroom.store.database import Database
from darkroom.store.generate_repository import MOST_ASSEMBLIES, assemble_what_is_ready, cancel_generate_job
from darkroom.store.job_repository import LeaseLost, get_job
from darkroom.store.tables import Artifact, ArtifactChunk, GeneratePart, Job
from darkroom.worker import shard_drawing as sampling
from darkroom.worker.assembling import assemble
from tests.app.served import zip_images
from tests.generate_jobs import (
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
    result_digest,
    retry,
    status,
    submit,
)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PART_IMAGES", 2)


def draw_everything(database: Database) -> None:
    """Run the queued shards, and queue the assembly of finished ones."""
    with database.session() as session:
        shards = session.scalar(select(func.count()).where(Job.kind == "sample", Job.status == "queued"))
    for _ in range(shards or 0):
        carry_out(database, *claim(database))
    with database.session() as session:
        assemble_what_is_ready(session)


def get(database: Database, job_id: int) -> Job:
    with database.session() as session:
        return get_job(session, job_id)


def damage(session: Session, first_row: int) -> str:
    """Flip one stored bit of the part that begins at `first_row`; returns the part's digest."""
    digest = session.scalars(select(GeneratePart.digest).where(GeneratePart.first_row == first_row)).one()
    data = session.scalars(select(ArtifactChunk.data).where(ArtifactChunk.digest == digest)).one()
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    session.execute(update(ArtifactChunk).where(ArtifactChunk.digest == digest).values(data=wrong))
    return digest


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_the_order_of_the_shards_is_of_no_consequence(database: Database, order: tuple[int, ...]) -> None:
    in_order = finish(database, submit(database))
    number = submit(database)
    with database.session() as session:
        shards = session.scalars(select(Job).where(Job.generate_job_id == number).order_by(Job.id)).all()
        for urgency, place in enumerate(reversed(order)):
            shards[place].priority = urgency
    for place in order:
        job, lease = claim(database)
        assert job.id == shards[place].id
        carry_out(database, job, lease)
    shuffled = finish(database, number)
    assert digest_of(shuffled) == digest_of(rebuilt(arrays_of(in_order), facts_of(shuffled)))


def test_a_zip_has_the_images_of_an_npz(database: Database) -> None:
    expected = arrays_of(finish(database, submit(database)))
    images, manifest = zip_images(finish(database, submit(database, format="zip")))
    np.testing.assert_array_equal(images, expected["images"])
    assert [image["class_index"] for image in manifest["images"]] == expected["labels"].tolist()
    assert [image["index"] for image in manifest["images"]] == expected["indices"].tolist()


@pytest.mark.parametrize(
    ("drawn_on", "told"), [({}, None), ({2: "cuda, bfloat16"}, "cpu / cuda, bfloat16")], ids=["cpu", "both"]
)
def test_an_archive_says_what_has_drawn_its_images(
    database: Database, drawn_on: dict[int, str], told: str | None
) -> None:
    number = submit(database)
    draw_everything(database)
    with database.session() as session:
        for first_row, device in drawn_on.items():
            session.execute(update(GeneratePart).where(GeneratePart.first_row == first_row).values(drawn_on=device))
    assert carry_out(database, *claim(database))
    assert facts_of(result(database, number)).get("drawn_on") == told


def test_the_second_attempt_after_a_stored_result_changes_nothing(database: Database) -> None:
    """The first process dies after it has stored the result, before it reports success."""
    number = submit(database)
    draw_everything(database)
    job, lease = claim(database)
    assert assemble(attempt(job, lease, database))
    data = result(database, number)
    assert not parts(database)
    let_lapse(database)
    assert carry_out(database, *claim(database))
    assert result(database, number) == data
    assert status(database, number) == "succeeded"


def test_two_attempts_at_once_give_one_result(database: Database) -> None:
    """The first attempt has read all parts when its claim lapses. A second attempt then does all the work."""
    number = submit(database)
    draw_everything(database)
    job, stale = claim(database)
    overtaken = False

    def overtake() -> bool:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            let_lapse(database)
            assert carry_out(database, *claim(database))
        return False

    with pytest.raises(LeaseLost):
        assemble(attempt(job, stale, database, overtake))
    assert status(database, number) == "succeeded"
    assert len(arrays_of(result(database, number))["images"]) == 12


def test_a_stale_attempt_writes_nothing(database: Database) -> None:
    number = submit(database)
    draw_everything(database)
    job, stale = claim(database)
    let_lapse(database)
    _, lease = claim(database)
    with database.session() as session:
        artifacts = session.scalar(select(func.count()).select_from(Artifact))
    with pytest.raises(LeaseLost):
        assemble(attempt(job, stale, database))
    assert result_digest(database, number) is None
    assert len(parts(database)) == 7
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == artifacts
    assert carry_out(database, get(database, lease.job_id), lease)


def test_a_stop_leaves_everything_for_the_next_attempt(database: Database) -> None:
    number = submit(database)
    draw_everything(database)
    job, lease = claim(database)
    asked = 0

    def after_three_parts() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    assert not assemble(attempt(job, lease, database, after_three_parts))
    hand_back(database, lease)
    assert result_digest(database, number) is None
    assert carry_out(database, *claim(database))
    assert status(database, number) == "succeeded"


@pytest.mark.parametrize("rows", [(0,), (7,), (2, 10)])
def test_damaged_parts_are_drawn_again_and_nothing_else(database: Database, rows: tuple[int, ...]) -> None:
    number = submit(database, shard_images=5)
    draw_everything(database)
    before = {part.first_row: (part.digest, part.created_at) for part in parts(database)}
    with database.session() as session:
        damaged = [damage(session, row) for row in rows]
    job, lease = claim(database)
    assert not assemble(attempt(job, lease, database))
    with pytest.raises(LeaseLost):
        hand_back(database, lease)

    failed = get(database, job.id)
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure["kind"] == "part_damaged"
    assert all(digest in failed.failure["detail"] for digest in damaged)
    assert status(database, number) == "running"
    assert images_done(database, number) == 12 - 2 * len(rows)
    with database.session() as session:
        assert assemble_what_is_ready(session) == 0  # the damaged shards must be drawn first
    draw_everything(database)
    after = {part.first_row: (part.digest, part.created_at) for part in parts(database)}
    assert {row: digest for row, (digest, _) in after.items()} == {row: digest for row, (digest, _) in before.items()}
    assert {row for row in after if after[row] != before[row]} == set(rows)
    assert images_done(database, number) == 12

    mended = finish(database, number)
    assert status(database, number) == "succeeded"
    whole = finish(database, submit(database, shard_images=5))
    assert digest_of(mended) == digest_of(rebuilt(arrays_of(whole), facts_of(mended)))


def test_the_parts_of_equal_requests_are_damaged_one_by_one(database: Database) -> None:
    first, second = submit(database), submit(database)
    draw_everything(database)
    with database.session() as session:
        digest = session.scalars(
            select(GeneratePart.digest).where(GeneratePart.generate_job_id == first, GeneratePart.first_row == 0)
        ).one()
        session.execute(update(ArtifactChunk).where(ArtifactChunk.digest == digest).values(data=b"damaged"))
    images = [arrays_of(finish(database, number))["images"] for number in (second, first)]
    np.testing.assert_array_equal(*images)


def test_a_cancelled_assembly_queues_no_shard(database: Database) -> None:
    number = submit(database)
    draw_everything(database)
    with database.session() as session:
        damage(session, 0)
    job, lease = claim(database)
    with database.session() as session:
        cancel_generate_job(session, number)
    assert not assemble(attempt(job, lease, database))
    hand_back(database, lease)
    assert status(database, number) == "cancelled"
    retry(database, number)
    finish(database, number)
    assert status(database, number) == "succeeded"


def test_a_store_that_damages_everything_is_not_tried_for_ever(database: Database) -> None:
    number = submit(database)
    for number_of_attempt in range(1, MOST_ASSEMBLIES + 1):
        draw_everything(database)
        with database.session() as session:
            damage(session, 0)
        job, lease = claim(database)
        assert (job.kind, job.attempt) == ("assemble", number_of_attempt)
        assert not assemble(attempt(job, lease, database))
    draw_everything(database)
    assert status(database, number) == "failed"
    with database.session() as session:
        assert assemble_what_is_ready(session) == 0
    retry(database, number)
    finish(database, number)
    assert status(database, number) == "succeeded"


def test_of_a_finished_job_only_the_result_is_kept(database: Database) -> None:
    number = submit(database)
    data = finish(database, number)
    with database.session() as session:
        kept = set(session.scalars(select(Artifact.digest)))
        session.execute(update(Artifact).values(created_at=func.now() - seconds(7200.0)))
    with database.session() as session:
        assert collect_artifacts(session) == 7
        left = set(session.scalars(select(Artifact.digest)))
    assert digest_of(data) in left < kept
    assert result(database, number) == data


def test_parts_may_lie_in_a_folder(database_url: str, tmp_path: Path) -> None:
    """Damaged files outside the database are repaired too."""
    database = Database(database_url, artifacts_url=str(tmp_path))
    try:
        number = submit(database)
        draw_everything(database)
        for row, spoil in ((0, Path.unlink), (5, lambda path: path.write_bytes(b"damaged"))):
            digest = next(part.digest for part in parts(database) if part.first_row == row)
            (path,) = tmp_path.rglob(digest.removeprefix("sha256:"))
            spoil(path)
        assert not carry_out(database, *claim(database))
        draw_everything(database)
        images = arrays_of(finish(database, number))["images"]
        np.testing.assert_array_equal(images, arrays_of(finish(database, submit(database)))["images"])
    finally:
        database.dispose()
