"""Laws of planned jobs: a data set and a time are enough, the answer says why, and the speed is a worker's own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from darkroom.model.config import parse_recipe
from darkroom.model.planning.scaled_speed import scaled_speed
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.clock import seconds
from darkroom.store.database import Database
from darkroom.store.dataset_repository import DatasetFacts
from darkroom.store.job_forms import TrainWork
from darkroom.store.run_repository import record_curve_points
from darkroom.store.tables import Worker
from darkroom.store.worker_repository import see_worker
from tests.app.keyed import add_key, serving_keyed
from tests.app.served import Service
from tests.app.test_refusals import assert_problem
from tests.app.training import SHAPES, add_dataset, checkpoint, claim, end, holding, rates, see_measured, serving_jobs

PLANNED = {"dataset": "shapes", "minutes": 45}


def see(database: Database, name: str) -> None:
    """Record a beat without a measurement."""
    with database.session() as session:
        see_worker(session, name, "cpu", 1)


@pytest.fixture
def jobs(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path, database_url) as service:
        yield service


def plan(service: Service, **parameters: Any) -> dict[str, Any]:
    answer = service.client.get("/v1/plan", params=PLANNED | parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def post(service: Service, **body: Any) -> httpx.Response:
    return service.client.post("/v1/train-jobs", json=body)


def test_a_data_set_and_a_time_are_a_job_and_its_recipe_is_the_plan(jobs: Service, database: Database) -> None:
    see_measured(database, "slow", 50.0)
    see_measured(database, "fast", 500.0)
    told = plan(jobs)
    job = post(jobs, **PLANNED).json()
    work = TrainWork.model_validate(job["configuration"])
    assert work.recipe.model_dump(mode="json") == told["recipe"]
    assert work.planned is not None
    assert [choice.model_dump(mode="json") for choice in work.planned.choices] == told["choices"]
    assert (job["model"], job["promote"], job["status"]) == ("shapes", "best", "queued")
    assert (work.recipe.training.minutes, work.expected_seconds) == (45.0, 2700.0)
    assert (told["worker"], told["dataset"], told["model"]) == ("slow", "shapes", "shapes")
    assert told["images_per_second"] == pytest.approx(scaled_speed(rates(50.0))(work.recipe))
    assert told["total_images"] == work.recipe.training.total_images == int(told["images_per_second"] * 2700 * 0.85)
    assert told["passes"] == pytest.approx(told["total_images"] / 100)
    fields = [choice["field"] for choice in told["choices"]]
    assert {"model.image_size", "model.unet.width", "training.minutes", "optimizer.learning_rate"} < set(fields)
    assert all(choice["why"] for choice in told["choices"])


def test_a_running_job_says_when_its_time_is_over(jobs: Service, database: Database) -> None:
    see_measured(database, "worker", 50.0)
    job = post(jobs, **PLANNED).json()
    lease = claim(database)
    for images, left, total in ((100, 50.0, 600), (200, 25.0, 450), (470, 0.0, 470)):
        with holding(database, lease) as (session, row):
            record_curve_points(session, row, [CurvePoint(images, 0.5, 1.0, 1e-3, 10.0, 1000, left)])
        progress = jobs.client.get(job["links"]["self"]).json()["progress"]
        assert (progress["images_done"], progress["total_images"], progress["eta_seconds"]) == (images, total, left)
    checkpoint(database, lease, 480)  # of the last, incomplete stretch
    end(database, lease)
    progress = jobs.client.get(job["links"]["self"]).json()["progress"]
    assert (progress["images_done"], progress["total_images"], progress["eta_seconds"]) == (480, 480, None)


def test_fields_of_the_request_replace_those_of_the_plan(jobs: Service, database: Database) -> None:
    see_measured(database, "worker", 50.0)
    own = {"model": "other", "promote": "never", "overrides": {"model.unet.width": 48, "evaluation": {"images": 30}}}
    job = post(jobs, **PLANNED, **own).json()
    recipe, planned = job["configuration"]["recipe"], job["configuration"]["planned"]
    assert (job["model"], job["promote"], recipe["name"]) == ("other", "never", "other")
    assert (recipe["model"]["unet"]["width"], recipe["evaluation"]["images"]) == (48, 30)
    fields = {choice["field"] for choice in planned["choices"]}
    assert "training.minutes" in fields
    assert not {"model.unet.width", "evaluation"} & fields


def test_the_speed_is_that_of_the_slowest_living_worker_with_the_device(jobs: Service, database: Database) -> None:
    see(database, "new")
    for name, speed, device in (("a", 50.0, "cpu"), ("b", 20.0, "cpu"), ("c", 900.0, "cuda")):
        see_measured(database, name, speed, device)
    assert (plan(jobs)["worker"], plan(jobs, device="cuda")["worker"]) == ("b", "c")
    see(database, "b")  # a beat without a measurement keeps the one before
    assert plan(jobs)["worker"] == "b"
    with database.session() as session:
        session.execute(update(Worker).where(Worker.name == "b").values(seen_at=Worker.seen_at - seconds(3600.0)))
    assert plan(jobs)["worker"] == "a"
    with database.session() as session:
        session.execute(update(Worker).values(seen_at=Worker.seen_at - seconds(7200.0)))
    assert (
        "no worker is running: planned with the speed of c, last seen at" in plan(jobs, device="cuda")["warnings"][-1]
    )


def test_a_data_set_that_the_query_names_must_exist(jobs: Service) -> None:
    problem = assert_problem(jobs.client.get("/v1/plan", params=PLANNED | {"dataset": "none"}), 422)
    assert problem["errors"][0]["pointer"] == "dataset"


def test_without_a_measured_speed_the_answer_says_what_to_do(jobs: Service, database: Database) -> None:
    for answer in (jobs.client.get("/v1/plan", params=PLANNED), post(jobs, **PLANNED)):
        problem = assert_problem(answer, 503)
        assert problem["type"] == "/docs/errors#speed-unknown"
        assert "start one with `darkroom worker`" in problem["detail"]
    see(database, "new")
    answer = jobs.client.get("/v1/plan", params=PLANNED)
    assert "new does so when it has no job" in assert_problem(answer, 503)["detail"]
    assert answer.headers["retry-after"] == "10"
    see_measured(database, "older", 1.0)
    with database.session() as session:
        session.execute(update(Worker).where(Worker.name == "older").values(rates=[{"speed": "high"}]))
    assert_problem(jobs.client.get("/v1/plan", params=PLANNED), 503)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"minutes": 45}, "/dataset"),
        ({"minutes": 45, "dataset": "none"}, "/dataset"),
        ({"minutes": 0, "dataset": "shapes"}, "/minutes"),
        ({"minutes": 1e-6, "dataset": "shapes"}, "/minutes"),
        ({"minutes": 45, "dataset": "shapes", "recipe": "digits"}, "/recipe"),
        ({"minutes": 45, "dataset": "shapes", "from_model": "shapes@1"}, "/from_model"),
        ({"minutes": 1441, "dataset": "shapes"}, "/long"),
        ({"recipe": "digits", "dataset": "shapes", "overrides": {"training.minutes": 1441}}, "/long"),
        ({"recipe": "digits", "dataset": "shapes", "overrides": {"training.total_images": 10**8}}, "/long"),
    ],
    ids=str,
)
def test_a_faulty_request_is_refused_where_it_is_faulty(
    jobs: Service, database: Database, body: dict[str, Any], pointer: str
) -> None:
    see_measured(database, "worker", 50.0)
    problem = assert_problem(post(jobs, **body), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    if pointer == "/long":
        assert "about " in problem["detail"]
        assert post(jobs, **body, long=True).status_code == 202


def test_a_recipes_time_is_estimated_where_a_speed_is_known(jobs: Service, database: Database) -> None:
    body = {"recipe": "digits", "dataset": "shapes"}
    assert post(jobs, **body).json()["configuration"]["expected_seconds"] is None
    see_measured(database, "worker", 50.0)
    work = TrainWork.model_validate(post(jobs, **body).json()["configuration"])
    per_second = scaled_speed(rates(50.0))(work.recipe)
    assert work.expected_seconds == pytest.approx(work.recipe.training.total_images / per_second)


def test_a_short_run_trains_on_smaller_pictures(jobs: Service, database: Database) -> None:
    see_measured(database, "worker", 500.0)
    add_dataset(database, "large", replace(SHAPES, digest="sha256:" + "6" * 64, image_channels=3, image_size=48))
    sides = [plan(jobs, dataset="large", minutes=one)["recipe"]["model"]["image_size"] for one in (1, 45, 10_000)]
    assert sides == sorted(sides)
    assert (sides[0], sides[-1]) == (16, 48)
    job = post(jobs, dataset="large", minutes=1).json()
    assert job["configuration"]["recipe"]["model"]["image_size"] == 16


def test_the_plan_warns(jobs: Service, database: Database) -> None:
    add_dataset(
        database, "few", DatasetFacts("zip", "sha256:" + "6" * 64, ("a", "b"), (90, 5), 1, 8, 70, (True, False), 0.83)
    )
    see_measured(database, "worker", 5.0)
    few = plan(jobs, dataset="few", minutes=5)
    assert few["recipe"]["training"]["horizontal_flip"] == ["a"]
    assert few["expectation"].startswith("95 pictures of 2 classes, 70 of them different, 83% on a flat ground. ")
    said = " ".join(few["warnings"])
    assert "5 minutes on this machine will give blurs" in said
    assert "would give recognisable pictures" in said
    assert "few pictures, which the model may copy: b (5)" in said
    assert "25 of 95 pictures are exact repeats" in said


def test_a_key_that_may_not_promote_gets_a_job_that_does_not(
    weights: Path, database: Database, database_url: str
) -> None:
    add_dataset(database)
    see_measured(database, "worker", 50.0)
    tokens = [add_key(database, scope, name=scope)[1] for scope in ("train", "admin")]
    with serving_keyed(weights, tokens, database_url=database_url) as served:
        train, admin = served.clients
        made = [client.post("/v1/train-jobs", json=PLANNED).json()["promote"] for client in (train, admin)]
        assert made == ["never", "best"]
        assert_problem(train.post("/v1/train-jobs", json=PLANNED | {"promote": "best"}), 403)


def test_the_stored_form_is_a_recipe_that_runs_by_itself(jobs: Service, database: Database) -> None:
    see_measured(database, "worker", 50.0)
    recipe = plan(jobs)["recipe"]
    assert parse_recipe(recipe, source="plan").model_dump(mode="json") == recipe
