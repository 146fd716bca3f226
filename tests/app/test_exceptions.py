"""Laws of the table of exceptions: a fault gets the same answer in every route."""

from pathlib import Path

import pytest
from sqlalchemy import update

from darkroom.app.exceptions import at, problem_of
from darkroom.app.http.problems import Problem
from darkroom.app.versions.version import UnknownModel
from darkroom.store.database import Database, DatabaseAway, DatabaseBusy, DatabaseFull
from darkroom.store.job_repository import JobConflict, JobNotFound
from darkroom.store.model_repository import VersionCollected
from darkroom.store.tables import Checkpoint
from tests.app.served import serving, store_weights, tiny_weights, weights_folder
from tests.app.test_refusals import assert_problem
from tests.processes import wait_until


def test_every_route_answers_410_for_a_collected_version(tmp_path: Path, database_url: str, database: Database) -> None:
    with serving(weights_folder(tmp_path), database_url=database_url) as service:
        wait_until(lambda: service.client.get("/v1/models/tiny").status_code == 200, "the shipped model's registration")
        collected = store_weights(database, tiny_weights("tiny", 6), "trained")
        with database.session() as session:
            session.execute(update(Checkpoint).where(Checkpoint.digest == collected).values(artifact_digest=None))
        name, client = "tiny@2", service.client
        answers = {
            "generate": client.post("/generate", json={"class": 0, "model": name}),
            "interpolate": client.post("/v1/interpolate", json={"class": 0, "seeds": [1, 2], "model": name}),
            "generate job": client.post("/v1/generate-jobs", json={"class": 0, "model": name}),
            "train job": client.post("/train-jobs", json={"recipe": "fashion-mnist", "from_model": name}),
            "sweep": client.post(
                "/v1/sweeps", json={"name": "s", "recipe": "fashion-mnist", "from_model": name, "seeds": [1]}
            ),
            "production": client.put("/v1/models/tiny/alias/production", json={"version": 2}),
            "alias": client.put("/v1/models/tiny/alias/candidate", json={"version": 2}),
        }
    for way, answer in answers.items():
        assert assert_problem(answer, 410)["type"] == "/docs/errors#version-collected", way


def test_a_missing_thing_that_a_body_names_is_a_fault_of_the_field() -> None:
    with pytest.raises(Problem) as refused, at("/from_job", JobNotFound):
        raise JobNotFound(7)
    assert (refused.value.status, refused.value.kind) == (422, "invalid")
    assert refused.value.extra["errors"] == [{"pointer": "/from_job", "detail": "there is no job 7"}]
    with pytest.raises(Problem) as refused, at("/from_model", VersionCollected):
        raise VersionCollected("tiny", 2)
    assert (refused.value.status, refused.value.kind) == (410, "version-collected")
    assert [one["pointer"] for one in refused.value.extra["errors"]] == ["/from_model"]
    with pytest.raises(JobConflict), at("/from_job", JobNotFound):  # `at` leaves other exceptions alone
        raise JobConflict("it has ended")


def test_a_missing_thing_that_an_address_names_is_not_found() -> None:
    assert (problem_of(JobNotFound(7)).status, problem_of(JobNotFound(7)).kind) == (404, "no-such-job")
    assert problem_of(UnknownModel("there is no model 'x'")).extra["errors"][0]["pointer"] == "/model"


def test_an_exception_without_an_entry_gets_the_answer_of_its_base_class() -> None:
    class Ended(JobConflict):
        """A kind of conflict."""

    assert problem_of(Ended("it has ended")).details() == problem_of(JobConflict("it has ended")).details()


@pytest.mark.parametrize(
    ("kind", "says"), [(DatabaseAway, "cannot be used now"), (DatabaseBusy, "too long"), (DatabaseFull, "disk is full")]
)
def test_a_database_that_cannot_be_used_is_503_with_a_time_to_wait(kind: type[DatabaseAway], says: str) -> None:
    problem = problem_of(kind("as the server says it"))
    assert (problem.status, problem.kind) == (503, "store-unavailable")
    assert int(problem.headers["Retry-After"]) > 0
    assert says in problem.detail
