"""Laws of figures: they are stored as measured, and a frontier's points do not decide which checkpoint is the best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from darkroom.model.figure import Figure
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.figure_repository import figures_by, job_figures, record_figures
from darkroom.store.job_repository import Claimant, Lease, claim_job, events_after, get_job, hold, submit_job
from darkroom.store.job_views import best_figures, measured, view_jobs
from darkroom.store.run_repository import record_checkpoint, record_evaluations, record_frontier
from darkroom.store.tables import Checkpoint, Evaluation, Job

FIGURE = Figure("fid-x", 10.0, {"metric": "fid-x", "steps": 20, "sampler": "ddim", "eta": 0.5, "seed": None}, 1.5)
POINT = replace(FIGURE, value=1.0)
"""It has the metric and protocol of the evaluations, and is better than any of them."""


@pytest.fixture
def lease(database: Database) -> Lease:
    """Claim a train job that has checkpoints at 4 and 8 images, of which the second is better."""
    with database.session() as session:
        submit_job(session, kind="train", model_name="digits", configuration={}, total_images=8)
        job = claim_job(session, Claimant("worker", "cpu"), 600.0)
        assert job is not None
        lease = Lease(job.id, job.attempt)
    for images_seen, value in ((4, 20.0), (8, 10.0)):
        with database.session() as session:
            state = Artifacts(session).put(b"state %d" % images_seen)
            kept: dict[str, Any] = {"weights": b"weights %d" % images_seen, "state_digest": state, "keep_last": 2}
            job = hold(session, lease)
            record_checkpoint(session, job, images_seen, configuration={}, class_names=["zero"], **kept)
            record_evaluations(session, job, images_seen, [replace(FIGURE, value=value)])
    return lease


def _checkpoint(session: Session, lease: Lease) -> int:
    found = get_job(session, lease.job_id).best_checkpoint_id
    assert found is not None
    return found


def test_a_figure_comes_back_as_it_was_recorded(database: Database, lease: Lease) -> None:
    with database.session() as session:
        best = _checkpoint(session, lease)
        (images_seen, version, row) = job_figures(session, "evaluation", lease.job_id)[-1]
        assert (images_seen, version, row.checkpoint_id, row.figure) == (8, 2, best, FIGURE)
        assert row.protocol_digest == row.figure.protocol_digest == FIGURE.protocol_digest
        assert figures_by(session, "evaluation", Checkpoint.id, [best, best + 100]) == {best: [FIGURE]}
        digest = session.get_one(Checkpoint, best).digest
        assert figures_by(session, "evaluation", Checkpoint.digest, [digest]) == {digest: [FIGURE]}
        assert session.get_one(Checkpoint, best).metrics == {"fid-x": 10.0}


def test_measured_again_it_is_replaced(database: Database, lease: Lease) -> None:
    again, other = replace(FIGURE, value=9.0, seconds=2.5), replace(FIGURE, protocol={"steps": 21})
    with database.session() as session:
        record_figures(session, _checkpoint(session, lease), "evaluation", [again, other])
    with database.session() as session:
        found = [row.figure for _, _, row in job_figures(session, "evaluation", lease.job_id, at=8)]
    assert sorted(found, key=lambda one: one.value) == [again, other]


def _best(session: Session, job: Job) -> object:
    return job.best_checkpoint_id, view_jobs(session, [job])[0].best


def _figures(found: Sequence[tuple[int, int, Evaluation]]) -> object:
    return [(images_seen, version, row.figure) for images_seen, version, row in found]


ANSWERS: Mapping[str, Callable[[Session, Job], object]] = {
    "the best": _best,
    "the best of a metric": lambda session, job: best_figures(session, [job.id], "fid-x"),
    "what was measured": lambda session, job: measured(session, [job.id]),
    "the job's evaluations": lambda session, job: _figures(job_figures(session, "evaluation", job.id)),
    "the first one's evaluations": lambda session, job: _figures(job_figures(session, "evaluation", job.id, at=4)),
    "a version's evaluations": lambda session, job: figures_by(session, "evaluation", Checkpoint.id, range(100)),
    "a version's metrics": lambda session, job: session.get_one(Checkpoint, job.best_checkpoint_id).metrics,
}


@pytest.mark.parametrize("question", ANSWERS)
def test_points_of_a_frontier_change_no_answer_about_checkpoints(
    database: Database, lease: Lease, question: str
) -> None:
    points = [POINT, replace(POINT, metric="kid-x", seconds=None)]
    with database.session() as session:
        before = repr(ANSWERS[question](session, get_job(session, lease.job_id)))
        first = job_figures(session, "evaluation", lease.job_id)[0][2].checkpoint_id
    with database.session() as session:
        record_frontier(session, hold(session, lease), 4, points)
    with database.session() as session:
        assert repr(ANSWERS[question](session, get_job(session, lease.job_id))) == before
        assert figures_by(session, "frontier", Checkpoint.id, range(100)) == {first: points}
    with database.session() as session:  # and a later evaluation finds the same best one
        record_evaluations(session, hold(session, lease), 8, [FIGURE])
    with database.session() as session:
        assert repr(ANSWERS[question](session, get_job(session, lease.job_id))) == before


def test_both_are_told_as_events(database: Database, lease: Lease) -> None:
    with database.session() as session:
        record_frontier(session, hold(session, lease), 8, [POINT])
    with database.session() as session:
        told: Sequence[tuple[str, Any]] = [(one.kind, one.data) for one in events_after(session, lease.job_id, 0)]
    assert [data for kind, data in told if kind == "evaluation"] == [
        {"images_seen": 4, "metric": "fid-x", "value": 20.0, "seconds": 1.5},
        {"images_seen": 8, "metric": "fid-x", "value": 10.0, "seconds": 1.5},
    ]
    assert [data for kind, data in told if kind == "frontier"] == [
        {"images_seen": 8, "metric": "fid-x", "value": 1.0, "sampler": "ddim", "steps": 20}
    ]
    assert [data["images_seen"] for kind, data in told if kind == "best"] == [4, 8]


def test_an_evaluation_says_how_long_it_took(database: Database, lease: Lease) -> None:
    with pytest.raises(IntegrityError, match="ck_evaluations_seconds"), database.session() as session:
        record_figures(session, _checkpoint(session, lease), "evaluation", [replace(FIGURE, seconds=None)])
