"""Laws of stored early verdicts: who shows them, when an event tells one, and that a failure is not promoted."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from darkroom.model.training.finding import Finding
from darkroom.store.artifacts import Artifacts
from darkroom.store.counters import read_counters
from darkroom.store.database import Database
from darkroom.store.job_repository import Claimant, claim_job, events_after, submit_job
from darkroom.store.promotion import promote_best
from darkroom.store.run_repository import forked, job_checkpoints, record_checkpoint, record_verdict
from darkroom.store.tables import Job

NOISE = Finding("noise", "failure", None, "The pictures are still noise; train longer")
GRAINY = Finding("grainy", "warning", None, "The pictures are still grainy; train longer")


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.session() as session:
        yield session


def running(session: Session, start: object = None) -> Job:
    """Return a running job that promotes, with a checkpoint at 50 images."""
    configuration = {"recipe": {"evaluation": None}, "start": start}
    submit_job(
        session,
        kind="train",
        model_name="digits",
        configuration=configuration,
        total_images=100,
        promote="best",
    )
    job = claim_job(session, Claimant("w", "cpu"), 60.0)
    assert job is not None
    save(session, job, 50)
    return job


def save(session: Session, job: Job, images_seen: int) -> None:
    record_checkpoint(
        session,
        job,
        images_seen,
        weights=f"{job.id} {images_seen}".encode(),
        state_digest=Artifacts(session).put(b"state"),
        configuration={},
        class_names=["zero"],
        keep_last=2,
    )


def test_a_verdict_belongs_to_the_job_and_to_its_checkpoint_of_that_moment(session: Session) -> None:
    job = running(session)
    record_verdict(session, job, 50, [NOISE])
    save(session, job, 100)
    record_verdict(session, job, 100, [])
    assert job.verdict == {"images_seen": 100, "findings": [], "forecast": None}
    verdicts = {saved.images_seen: checkpoint.verdict for saved, checkpoint in job_checkpoints(session, job.id)}
    assert verdicts == {50: {"images_seen": 50, "findings": [NOISE.plain()], "forecast": None}, 100: job.verdict}


def test_an_event_tells_a_verdict_when_it_changes_and_a_counter_counts_new_findings(session: Session) -> None:
    job = running(session)
    again = Finding("noise", "failure", None, "The pictures are still noise: other numbers")
    for images, findings in ((50, [NOISE]), (60, [again]), (70, [NOISE, GRAINY]), (80, []), (90, [])):
        record_verdict(session, job, images, findings)
    told = [event.data for event in events_after(session, job.id, 0) if event.kind == "verdict"]
    assert [(one["images_seen"], len(one["findings"])) for one in told] == [(50, 1), (70, 2), (80, 0)]
    counted = {key: value for key, value in read_counters(session).items() if key[0] == "training_findings"}
    assert counted == {("training_findings", "noise:failure"): 1, ("training_findings", "grainy:warning"): 1}


@pytest.mark.parametrize(("findings", "promoted"), [([], True), ([GRAINY], True), ([GRAINY, NOISE], False)])
def test_best_is_promoted_unless_its_verdict_is_a_failure(
    session: Session, findings: list[Finding], promoted: bool
) -> None:
    job = running(session)
    job.images_done = 50
    record_verdict(session, job, 50, findings)
    assert (promote_best(session, job) is not None) is promoted
    last = events_after(session, job.id, 0)[-1]
    assert (last.kind, last.data.get("reason")) == (("promoted", None) if promoted else ("not_promoted", NOISE.advice))


def test_a_checkpoint_without_a_look_counts_by_the_jobs_newest_one(session: Session) -> None:
    job = running(session)
    job.images_done = 50
    record_verdict(session, job, 60, [NOISE])
    assert promote_best(session, job) is None


@pytest.mark.parametrize(("looked_at", "promoted"), [(40, False), (50, True)])
def test_a_look_before_pictures_are_judged_does_not_outweigh_noise_at_the_end(
    session: Session, looked_at: int, promoted: bool
) -> None:
    job = running(session)
    save(session, job, looked_at)
    best = {saved.images_seen: checkpoint for saved, checkpoint in job_checkpoints(session, job.id)}[looked_at]
    record_verdict(session, job, looked_at, [])
    job.best_checkpoint_id, job.images_done = best.id, 100
    record_verdict(session, job, 100, [NOISE])
    assert (promote_best(session, job) is not None) is promoted


def test_forks_are_told_from_other_versions(session: Session) -> None:
    plain = running(session)
    fork = running(session, {"model": "digits", "digest": "sha256:0"})
    continued = running(session, {"job_id": plain.id, "images_seen": 50})
    ids = [job_checkpoints(session, job.id)[0][1].id for job in (plain, fork, continued)]
    assert forked(session, ids) == {ids[1]}
