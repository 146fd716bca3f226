"""Laws of /train-jobs: a faulty request queues nothing, a job is stored completely, and answers match the store."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from darkroom.app.embedded.redis import PrivateRedis
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast
from darkroom.model.training.recipe_fit import ImageFacts, recipe_misfits
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.hints import QUEUE
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import events_after, get_job, stop
from darkroom.store.run_repository import append_log, kept_states, record_samples, record_verdict
from darkroom.store.tables import Dataset, Job
from darkroom.store.worker_repository import see_worker
from tests.app.served import SCHEDULE_STEPS, SIDE, Service, serving, store_weights, tiny_weights
from tests.app.test_refusals import assert_problem
from tests.app.training import (
    SHAPES,
    add_dataset,
    broken,
    checkpoint,
    claim,
    configuration,
    end,
    holding,
    metrics,
    see_measured,
    serving_jobs,
)
from tests.model.earlier import earlier
from tests.model.small import small_recipe
from tests.processes import free_port, wait_until

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def jobs(tmp_path: Path, database_url: str) -> Iterator[Service]:
    """The service with the data set `shapes`, without models and without Redis."""
    with serving_jobs(tmp_path, database_url) as service:
        yield service


def submit(service: Service, **body: Any) -> dict[str, Any]:
    answer = service.client.post("/train-jobs", json={"recipe": "digits", "dataset": "shapes"} | body)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(service: Service, **body: Any) -> dict[str, Any]:
    """Require 422 for a job like those of `submit`; returns the problem."""
    return assert_problem(
        service.client.post("/train-jobs", json={"recipe": "digits", "dataset": "shapes"} | body), 422
    )


def read(service: Service, path: str, **parameters: Any) -> dict[str, Any]:
    answer = service.client.get(f"/v1/train-jobs{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def count_jobs(database: Database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def test_a_job_is_stored_whole(jobs: Service, database: Database) -> None:
    for path in ("/train-jobs", "/v1/train-jobs"):
        answer = jobs.client.post(
            path,
            json={
                "recipe": "digits",
                "dataset": "shapes",
                "model": "mine",
                "overrides": {"training.total_images": 20_000, "model.unet.dropout": 0.1, "training.devices": 2},
                "evaluate_every_images": 5_000,
                "priority": 7,
                "device": "cpu",
                "promote": "best",
                "max_attempts": 2,
                "keep_last": 5,
            },
        )
        assert answer.status_code == 202, answer.text
        told = answer.json()
        assert answer.headers["location"] == f"/v1/train-jobs/{told['id']}" == told["links"]["self"]
        assert told == jobs.client.get(answer.headers["location"]).json()
        assert (told["status"], told["model"], told["dataset"], told["attempt"]) == ("queued", "mine", "shapes", 0)
        assert told["progress"] == {
            "images_done": 0,
            "total_images": 20_000,
            "images_per_second": None,
            "loss": None,
            "eta_seconds": None,
        }
        with database.session() as session:
            row = get_job(session, told["id"])
        work = TrainWork.model_validate(row.configuration)
        assert work.model_dump(mode="json") == row.configuration == told["configuration"]
        assert (row.priority, row.device, row.devices, row.promote) == (7, "cpu", 2, "best")
        assert (row.max_attempts, work.keep_last, row.total_images, row.model_name) == (2, 5, 20_000, "mine")
        assert (work.recipe.name, work.recipe.training.total_images) == ("mine", 20_000)
        assert work.recipe.model.unet.dropout == 0.1
        assert work.recipe.evaluation is not None
        assert work.recipe.evaluation.every_images == 5_000
        assert work.recipe.dataset.format == "zip"
        assert work.recipe.optimizer.learning_rate == 2e-3  # the recipe's own


def test_a_configuration_in_the_request_equals_the_named_recipe(jobs: Service) -> None:
    named = submit(jobs, model="mine")
    given = submit(jobs, model="mine", recipe=configuration())
    assert given["configuration"] == named["configuration"]
    with_name = submit(jobs, recipe=configuration() | {"name": "other", "dataset": {"format": "digits"}})
    assert with_name["model"] == "other"
    assert with_name["dataset"] == "shapes"


def test_an_older_configuration_with_the_image_size_in_its_network_is_the_same(jobs: Service) -> None:
    old, now = earlier(configuration()), submit(jobs, model="mine")["configuration"]
    assert old["model"]["unet"]["image_size"] == 8
    assert submit(jobs, model="mine", recipe=old)["configuration"] == now
    # a change under the old or the new name overrides the recipe under both names
    old["model"]["unet"] |= {"image_channels": 3, "image_size": 16}
    for form in ("model", "model.unet"):
        changes = {f"{form}.image_channels": 1, f"{form}.image_size": 8}
        assert submit(jobs, model="mine", recipe=old, overrides=changes)["configuration"] == now


def test_without_a_data_set_the_recipe_s_own_is_used_or_required(jobs: Service, database: Database) -> None:
    pytest.importorskip("sklearn")
    for _ in range(2):
        answer = jobs.client.post("/train-jobs", json={"recipe": "digits"})
        assert answer.status_code == 202, answer.text
        assert answer.json()["dataset"] == "digits"
        assert answer.json()["configuration"]["recipe"]["dataset"]["format"] == "digits"
    with database.session() as session:
        assert session.scalars(select(Dataset.name).order_by(Dataset.name)).all() == ["digits", "shapes"]
    problem = assert_problem(jobs.client.post("/train-jobs", json={"recipe": "fashion-mnist"}), 422)
    assert problem["errors"][0]["pointer"] == "/dataset"
    assert "POST /v1/datasets" in problem["detail"]
    without = {"recipe": configuration(), "model": "m"}
    assert assert_problem(jobs.client.post("/train-jobs", json=without), 422)["errors"][0]["pointer"] == "/dataset"


def test_somebody_s_own_digits_do_not_take_the_place_of_the_bundled_ones(jobs: Service, database: Database) -> None:
    pytest.importorskip("sklearn")
    add_dataset(database, "digits", SHAPES)
    for _ in range(2):
        assert jobs.client.post("/train-jobs", json={"recipe": "digits"}).json()["dataset"] == "bundled-digits"
    assert jobs.client.post("/train-jobs", json={"recipe": "digits", "dataset": "digits"}).json()["dataset"] == "digits"


UNET = "/overrides/model.unet"
IMAGES = "/overrides/evaluation.images"
EVERY = "/overrides/evaluation/every_images"


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"recipe": "nothing"}, "/recipe", "digits"),
        ({"recipe": None}, "/recipe", "needed"),
        ({"recipe": 3}, "/recipe", ""),
        ({"recipe": "../secret"}, "/recipe", ""),
        ({"recipe": {}, "model": "m"}, "/recipe/training", "required"),
        ({"recipe": configuration()}, "/model", "name"),
        ({"recipe": configuration() | {"colour": 1}, "model": "m"}, "/recipe/colour", "not permitted"),
        ({"recipe": configuration() | {"name": 3}}, "/recipe/name", "text"),
        ({"recipe": configuration() | {"name": "N"}}, "/recipe/name", "pattern"),
        (
            {"recipe": configuration() | {"optimizer": {"learning_rate": "fast"}}, "model": "m"},
            "/recipe/optimizer/learning_rate",
            "number",
        ),
        ({"overrides": {"training.total": 3}}, "/overrides/training.total", "not permitted"),
        ({"overrides": {"training.total_images": "3"}}, "/overrides/training.total_images", "integer"),
        ({"overrides": {"training.total_images": True}}, "/overrides/training.total_images", "integer"),
        ({"overrides": {"training.total_images": 0}}, "/overrides/training.total_images", "greater"),
        (
            {"overrides": {"training.total_images": 10**30}},
            "/overrides/training.total_images",
            "less than or equal to 1000000000000000",
        ),
        ({"overrides": {"training.seed": 2**64}}, "/overrides/training.seed", ""),
        ({"overrides": {"training.batch_size.x": 1}}, "/overrides/training.batch_size.x", "no fields"),
        ({"overrides": {"training..seed": 1}}, "/overrides/training..seed", "dotted"),
        ({"overrides": {"": 1}}, "/overrides/", "dotted"),
        ({"overrides": {"name": "m"}}, "/overrides/name", "model"),
        ({"overrides": {"dataset.format": "npz"}}, "/overrides/dataset.format", "dataset"),
        ({"overrides": {"model.unet.dropout": 1.0}}, f"{UNET}.dropout", "less than 1"),
        ({"overrides": {"model.unet.dropout": float("nan")}}, f"{UNET}.dropout", "finite"),
        (
            {"overrides": {"model.unet.image_size": 16, "model.unet.attention_resolutions": [8]}},
            f"{UNET}.image_size",
            "8x8",
        ),
        ({"overrides": {"model.unet.image_size": 16}}, f"{UNET}.image_size", "attention resolution"),
        ({"overrides": {"model.unet.image_channels": 3}}, f"{UNET}.image_channels", "1 channel"),
        ({"overrides": {"model.image_size": 16}}, "/overrides/model.image_size", "attention resolution"),
        ({"overrides": {"model": {"image_channels": 3}}}, "/overrides/model/image_channels", "1 channel"),
        (
            {"overrides": {"model.image_size": 8, "model.unet": {"image_size": 16}}},
            f"{UNET}/image_size",
            "sets model.image_size, and /overrides/model.image_size sets model.image_size",
        ),
        (
            {"recipe": earlier(configuration()) | {"model": {"unet": {"image_size": 5000}}}, "model": "m"},
            "/recipe/model/unet/image_size",
            "1024",
        ),
        (
            {"recipe": configuration() | {"model": {"image_size": 8, "unet": {"image_size": 16}}}, "model": "m"},
            "/recipe/model",
            "unet.image_size, its old place, says 16",
        ),
        ({"overrides": {"model.unet.multipliers": [1, 2, 2, 2, 2]}}, f"{UNET}.multipliers", "not divisible"),
        ({"overrides": {"model.unet": {"width": 30}}}, f"{UNET}/width", "norm groups"),
        ({"overrides": {"model.unet": {"widht": 30}}}, f"{UNET}/widht", "not permitted"),
        ({"overrides": {"training.checkpoint_every_images": 1}}, "/overrides/training.checkpoint_every_images", "64"),
        ({"overrides": {"sampling.steps": 1000, "model.schedule.steps": 10}}, "/overrides/sampling.steps", "10"),
        ({"overrides": {"sampling.spacing": "edm", "sampling.steps": 1000}}, "/overrides/sampling.steps", "and 992"),
        ({"overrides": {"sampling": {"spacing": "edm", "steps": 1000}}}, "/overrides/sampling/steps", "and 992"),
        ({"overrides": {"model.schedule.steps": 49}}, "/overrides/model.schedule.steps", "sampling.steps: "),
        (
            {"overrides": {"model.schedule.steps": 50, "sampling.spacing": "edm"}},
            "/overrides/sampling.spacing",
            "between 1 and 49",
        ),
        (
            {"overrides": {"model": {"schedule": {"steps": 20}}, "evaluation.metrics": ["bits_per_dimension"]}},
            "/overrides/evaluation.metrics",
            "evaluation.bound_times: times must be between 2 and the model's 20",
        ),
        ({"overrides": {"evaluation.metrics": ["fid", "perceptual"], "evaluation.images": 2}}, IMAGES, "set it to 3"),
        ({"overrides": {"evaluation.metrics": ["fid", "precision_recall"], "evaluation.images": 3}}, IMAGES, "needs 4"),
        (
            {"overrides": {"evaluation.frontier_steps": [10, 993], "sampling.spacing": "edm_coarse"}},
            "/overrides/evaluation.frontier_steps",
            "not 993",
        ),
        (
            {"overrides": {"objective.times": {"name": "normal", "mean": 20, "scale": 0.1}}},
            "/overrides/objective.times/mean",
            "log-SNR near 20",
        ),
        (
            {"overrides": {"model": {"unet": {"image_channels": 3}}}},
            "/overrides/model/unet/image_channels",
            "1 channel",
        ),
        ({"overrides": {"model": {"unet": {"widht": 3}}}}, "/overrides/model/unet/widht", "not permitted"),
        ({"recipe": configuration() | {"evaluation": None}, "model": "m", "overrides": {"evaluation": {}}}, EVERY, ""),
        ({"overrides": {"training": {"seed": {}}}}, "/overrides/training/seed", "integer"),
        ({"overrides": {"training": {"seed": {"x": 1}}}}, "/overrides/training/seed/x", "no fields"),
        (
            {"overrides": {"objective.label_drop": 0, "sampling.guidance": 2.0}},
            "/overrides/sampling.guidance",
            "label_drop 0",
        ),
        (
            {"overrides": {"objective.label_drop": 0, "sampling.guidance": 1.0, "evaluation.guidance": 2.0}},
            "/overrides/evaluation.guidance",
            "label_drop 0",
        ),
        (
            {"overrides": {"model.prediction": "eps", "sampling.threshold": "none"}},
            "/overrides/sampling.threshold",
            "log_snr",
        ),
        (
            {"overrides": {"sampling.steps": 5, "evaluation": {"metrics": ["confidence"]}}},
            "/overrides/evaluation/metrics",
            "needs one of fid",
        ),
        (
            {"overrides": {"sampling.steps": 5, "evaluation.bound_variance": "learned"}},
            "/overrides/evaluation.bound_variance",
            "needs model.unet.learned_variance",
        ),
        (
            {"overrides": {"training.total_images": 2000, "training": {"total_images": 3000}}},
            "/overrides/training/total_images",
            "/overrides/training.total_images sets",
        ),
        (
            {"overrides": {"evaluation": None}, "evaluate_every_images": 500},
            "/evaluate_every_images",
            "sets evaluation",
        ),
        ({"overrides": {"evaluation.images": 5, "evaluation": None}}, "/overrides/evaluation", "sets evaluation.im"),
        ({"overrides": {"description": "a\0b"}}, "/overrides/description", "stored"),
        ({"overrides": {"description": "\ud800"}}, "/overrides/description", "stored"),
        ({"overrides": {"a/b~c": 1}}, "/overrides/a~1b~0c", "not permitted"),
        ({"overrides": []}, "/overrides", ""),
        ({"evaluate_every_images": 1}, "/evaluate_every_images", "batch"),
        ({"evaluate_every_images": 0}, "/evaluate_every_images", "greater"),
        ({"priority": 101}, "/priority", "100"),
        ({"priority": 1.5}, "/priority", "integer"),
        ({"device": "tpu"}, "/device", "cuda"),
        ({"promote": "always"}, "/promote", "best"),
        ({"max_attempts": 0}, "/max_attempts", "1"),
        ({"keep_last": 0}, "/keep_last", "1"),
        ({"model": "Upper"}, "/model", "pattern"),
        ({"dataset": ""}, "/dataset", ""),
        ({"dataset": "a\0"}, "/dataset", "stored"),
        ({"images_seen": 3}, "/images_seen", "from_job"),
        ({"from_job": 0}, "/from_job", ""),
        ({"from_job": 2**63}, "/from_job", ""),
        ({"from_job": "1"}, "/from_job", "integer"),
        ({"from_job": 1, "from_model": "m@1"}, "/from_model", "exclude"),
        ({"from_model": "m"}, "/from_model", "pattern"),
        ({"colour": "red"}, "/colour", "not permitted"),
    ],
)
def test_a_faulty_field_is_named_and_nothing_is_queued(
    shared_jobs: Service, change: dict[str, Any], pointer: str, says: str
) -> None:
    body = {"recipe": "digits", "dataset": "shapes"} | change
    answer = shared_jobs.client.post("/train-jobs", content=json.dumps(body), headers=JSON)
    problem = assert_problem(answer, 422)
    assert pointer in [error["pointer"] for error in problem["errors"]], problem
    assert any(says in error["detail"] for error in problem["errors"] if error["pointer"] == pointer), problem
    assert read(shared_jobs, "")["jobs"] == []


@pytest.fixture(scope="module")
def shared_jobs(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Service]:
    """Like `jobs`, but shared by tests that store nothing."""
    with serving_jobs(tmp_path_factory.mktemp("nothing"), module_database_url) as service:
        yield service


def test_a_section_given_as_an_object_changes_only_the_fields_that_it_names(jobs: Service) -> None:
    dotted = {
        "model.unet.dropout": 0.1,
        "model.unet.width": 64,
        "optimizer.learning_rate": 1e-3,
        "evaluation.steps": 10,
    }
    nested = {
        "model": {"unet": {"dropout": 0.1}},
        "model.unet": {"width": 64},
        "optimizer": {"learning_rate": 1e-3},
        "evaluation": {"steps": 10},
        "sampling": {},
    }
    one, other = (submit(jobs, overrides=overrides)["configuration"] for overrides in (dotted, nested))
    assert one == other
    recipe = {"recipe": configuration() | {"evaluation": None}, "model": "m"}
    added = {"evaluation": {"every_images": 75_000, "images": 500}}
    made = submit(jobs, **recipe, overrides=added)["configuration"]["recipe"]["evaluation"]
    assert (made["every_images"], made["images"], made["metrics"]) == (75_000, 500, ["fid"])
    assert submit(jobs, overrides={"evaluation": None})["configuration"]["recipe"]["evaluation"] is None


def test_fid_needs_a_data_set_of_two_images(jobs: Service, database: Database) -> None:
    add_dataset(database, "lone", SHAPES.__class__("zip", "sha256:" + "7" * 64, ("a", "b"), (1, 0), 1, 8))
    body = {"recipe": "digits", "dataset": "lone"}
    problem = assert_problem(jobs.client.post("/train-jobs", json=body), 422)
    (fault,) = problem["errors"]
    assert fault["pointer"] == "/recipe"
    assert fault["detail"] == "evaluation.metrics: fid needs 2 images of the data set or more, and there are 1"
    unjudged = body | {"overrides": {"evaluation": None}}
    assert jobs.client.post("/train-jobs", json=unjudged).status_code == 202


def test_a_train_job_accepts_exactly_the_settings_that_its_model_can_serve(tmp_path: Path, database_url: str) -> None:
    """Submission refuses exactly the model's own settings that POST /generate could not use."""
    for number, (steps, spacing, taken) in enumerate(
        [(496, "edm", True), (497, "edm", False), (500, "trailing", True), (501, "trailing", False)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tiny.safetensors").write_bytes(tiny_weights(steps=steps, spacing=spacing))
        recipe = small_recipe(
            model__schedule={"steps": SCHEDULE_STEPS}, sampling={"steps": steps, "spacing": spacing, "sampler": "ddim"}
        )
        found = list(recipe_misfits(recipe, ImageFacts(1, SIDE, (1, 1), ("circle", "square"))))
        assert bool(found) is not taken
        with serving(folder, default_model="tiny") as service:
            answer = service.generate(**{"class": "One"})
            assert ((answer["steps"], answer["spacing"]) == (steps, spacing)) is taken


def test_what_a_request_names_must_exist(shared_jobs: Service) -> None:
    body = {"recipe": "digits", "dataset": "shapes"}
    for change, pointer in (
        ({"dataset": "other"}, "/dataset"),
        ({"from_job": 99}, "/from_job"),
        ({"from_model": "nobody@1"}, "/from_model"),
    ):
        problem = assert_problem(shared_jobs.client.post("/train-jobs", json=body | change), 422)
        assert problem["type"] == "/docs/errors#invalid"
        assert problem["errors"][0]["pointer"] == pointer


def test_a_deeply_nested_configuration_is_refused(shared_jobs: Service) -> None:
    body = '{"recipe": "digits", "overrides": {"model": ' + '{"a":' * 500 + "1" + "}" * 502
    assert_problem(shared_jobs.client.post("/train-jobs", content=body, headers=JSON), 422)


@pytest.mark.parametrize("parts", [9, 1000, 20_000])
def test_a_field_of_too_many_parts_is_named(shared_jobs: Service, parts: int) -> None:
    name = ".".join(["a"] * parts)
    body = {"recipe": "digits", "dataset": "shapes"}
    for path, pointer, change in (
        ("/train-jobs", f"/overrides/{name}", {"overrides": {name: 1}}),
        ("/v1/sweeps", f"/overrides/{name}", {"name": "s", "seeds": [1], "overrides": {name: 1}}),
        ("/v1/sweeps", f"/grid/{name}/0", {"name": "s", "grid": {name: [1, 2]}}),
    ):
        problem = assert_problem(shared_jobs.client.post(path, json=body | change), 422)
        (error,) = problem["errors"]
        assert error["pointer"] == pointer
        assert f"has {parts} parts" in error["detail"]


def test_the_same_key_creates_one_job(jobs: Service, database: Database) -> None:
    body = {"recipe": "digits", "dataset": "shapes"}

    def post(path: str, **change: Any) -> httpx.Response:
        return jobs.client.post(path, json=body | change, headers={"Idempotency-Key": "k1"})

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(post, ["/train-jobs", "/v1/train-jobs"] * 4))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count_jobs(database) == 1
    assert_problem(post("/train-jobs", priority=1), 422)
    faulty = jobs.client.post("/train-jobs", json=body | {"dataset": "x"}, headers={"Idempotency-Key": "k2"})
    assert_problem(faulty, 422)
    mended = jobs.client.post("/train-jobs", json=body, headers={"Idempotency-Key": "k2"})
    assert mended.status_code == 202  # a refused request does not use up its key
    assert count_jobs(database) == 2


def test_a_finished_job_is_continued_from_its_kept_states(jobs: Service, database: Database) -> None:
    decayed = {"training.total_images": 3000, "optimizer.warmup_images": 500}
    first = submit(jobs, model="mine", overrides=decayed)
    assert_problem(jobs.client.post("/train-jobs", json={"from_job": first["id"]}), 409)  # nothing saved yet
    lease = claim(database)
    for images in (1000, 2000, 3000):
        checkpoint(database, lease, images)
    end(database, lease)

    problem = assert_problem(jobs.client.post("/train-jobs", json={"from_job": first["id"]}), 422)
    assert "3000" in problem["detail"]
    longer = {"training.total_images": 5000}
    on = jobs.client.post("/train-jobs", json={"from_job": first["id"], "overrides": longer})
    assert on.status_code == 202, on.text
    assert on.json()["parent_id"] == first["id"]
    assert on.json()["links"]["parent"] == first["links"]["self"]
    assert on.json()["model"] == "mine"
    assert on.json()["dataset"] == "shapes"
    assert on.json()["configuration"]["start"] == {"job_id": first["id"], "images_seen": 3000}
    with database.session() as session:
        (told,) = (one for one in events_after(session, on.json()["id"], 0) if one.kind == "note")
    assert "the learning rate leaps from" in told.data["detail"]
    assert "after 3000 images" in told.data["detail"]

    aside = {"from_job": first["id"], "images_seen": 2000, "model": "aside", "overrides": longer}
    forked = jobs.client.post("/train-jobs", json=aside)
    assert forked.json()["configuration"]["start"]["images_seen"] == 2000
    problem = assert_problem(jobs.client.post("/train-jobs", json=aside | {"images_seen": 1000}), 409)
    assert problem["errors"][0]["pointer"] == "/images_seen"
    assert "2000, 3000" in problem["detail"]

    wider = {"from_job": first["id"], "overrides": longer | {"model.unet.width": 64}}
    problem = assert_problem(jobs.client.post("/train-jobs", json=wider), 422)
    assert problem["errors"][0]["pointer"] == "/overrides/model.unet.width"
    for name, value in (
        ("optimizer.name", "muon"),
        ("model.prediction", "x0"),
        ("model.schedule.name", "linear"),
        ("training.guide_snapshot_images", 2500),
    ):
        other = {"from_job": first["id"], "overrides": longer | {name: value}}
        (fault,) = assert_problem(jobs.client.post("/train-jobs", json=other), 422)["errors"]
        assert fault["pointer"] == f"/overrides/{name}"
    for name, free in (("ema.warmup", "power"), ("optimizer.learning_rate", 1e-4), ("objective.label_drop", 0.2)):
        body = {"from_job": first["id"], "overrides": longer | {name: free}}
        assert jobs.client.post("/train-jobs", json=body).status_code == 202
    regularised = {"from_job": first["id"], "overrides": longer | {"model.unet.dropout": 0.2}}
    assert jobs.client.post("/train-jobs", json=regularised).status_code == 202
    add_dataset(database, "others", SHAPES.__class__("zip", "sha256:" + "6" * 64, ("a", "b"), (1, 1), 1, 8))
    problem = assert_problem(jobs.client.post("/train-jobs", json=aside | {"dataset": "others"}), 422)
    assert problem["errors"][0]["pointer"] == "/dataset"


def test_a_state_that_a_job_waits_for_is_kept(jobs: Service, database: Database) -> None:
    first = submit(jobs, overrides={"training.total_images": 9000})
    lease = claim(database)
    for images in (1000, 2000):
        checkpoint(database, lease, images)
    fork = jobs.client.post("/train-jobs", json={"from_job": first["id"], "images_seen": 1000, "model": "fork"}).json()
    for images in (3000, 4000):
        checkpoint(database, lease, images)

    def kept() -> list[int]:
        with database.session() as session:
            return [seen for seen, _ in kept_states(session, first["id"])]

    assert kept() == [4000, 3000, 1000]
    assert jobs.client.post(f"/v1/train-jobs/{fork['id']}/cancel").status_code == 202
    checkpoint(database, lease, 5000)
    assert kept() == [5000, 4000]


def test_a_job_begins_with_a_model_s_weights(jobs: Service, database: Database) -> None:
    digest = store_weights(database, tiny_weights("tiny", class_names=("a", "b")))
    store_weights(database, tiny_weights("four"))
    fitting = {
        "model.unet": {
            "image_channels": 1,
            "image_size": 8,
            "width": 8,
            "multipliers": [1],
            "blocks_per_level": 1,
            "attention_resolutions": [],
            "attention_head_channels": 8,
            "norm_groups": 4,
        },
        "model.schedule.steps": 500,
    }
    for version in ("1", "production", digest):
        answer = submit(jobs, from_model=f"tiny@{version}", overrides=fitting)
        assert answer["configuration"]["start"] == {"model": "tiny", "digest": digest}
    body = {"recipe": "digits", "dataset": "shapes", "overrides": fitting}
    problem = assert_problem(jobs.client.post("/train-jobs", json=body | {"from_model": "four@1"}), 422)
    assert "4 classes" in problem["detail"]
    assert_problem(jobs.client.post("/train-jobs", json=body | {"from_model": "tiny@9"}), 422)
    problem = assert_problem(
        jobs.client.post("/train-jobs", json=body | {"from_model": "tiny@1", "overrides": {}}), 422
    )
    assert problem["errors"][0]["pointer"] == "/recipe"
    assert problem["errors"][0]["detail"].startswith("model.schedule.steps: is 1000, but what the run begins from has")
    for name, value in (("model.prediction", "x0"), ("model.schedule.name", "linear"), ("model.schedule.steps", 400)):
        changed = body | {"from_model": "tiny@1", "overrides": fitting | {name: value}}
        (fault,) = assert_problem(jobs.client.post("/train-jobs", json=changed), 422)["errors"]
        assert (fault["pointer"], "begins from" in fault["detail"]) == (f"/overrides/{name}", True)
    for free in ({"optimizer.name": "muon"}, {"model.unet.dropout": 0.1}, {"ema.warmup": "power"}):
        submit(jobs, from_model="tiny@1", overrides=fitting | free)


def test_the_list_shows_every_job_once_newest_first(jobs: Service, database: Database) -> None:
    ids = [submit(jobs, model=model)["id"] for model in ("a", "b", "a", "b", "a")]
    jobs.client.post(f"/v1/train-jobs/{ids[2]}/cancel")

    def pages(**filters: Any) -> list[int]:
        found: list[int] = []
        before = None
        while True:
            page = read(jobs, "", limit=2, **filters, **({"before": before} if before else {}))
            found += [job["id"] for job in page["jobs"]]
            before = page["next_before"]
            if before is None:
                return found
            submit(jobs, model="c")  # a new job does not disturb the paging

    assert pages() == ids[::-1]
    assert pages(model="a") == [ids[4], ids[2], ids[0]]
    assert pages(status="cancelled") == [ids[2]]
    assert pages(status="queued", model="a") == [ids[4], ids[0]]
    assert pages(model="none") == []
    for bad in ({"limit": 0}, {"limit": 201}, {"before": 0}, {"before": 2**63}, {"status": "x"}, {"model": "X"}):
        assert_problem(jobs.client.get("/v1/train-jobs", params=bad), 422)


def test_the_answer_about_a_job_shows_its_progress_and_results(jobs: Service, database: Database) -> None:
    job = submit(jobs, overrides={"training.total_images": 1000, "training.checkpoint_every_images": 200})
    here = f"/{job['id']}"
    lease = claim(database)
    metrics(database, lease, 100, loss=0.9, speed=50.0)
    metrics(database, lease, 200, loss=0.7, speed=40.0)
    told = read(jobs, here)
    assert (told["status"], told["attempt"], told["worker"]) == ("running", 1, "worker")
    assert told["progress"] == {
        "images_done": 200,
        "total_images": 1000,
        "images_per_second": 40.0,
        "loss": 0.7,
        "eta_seconds": 20.0,
    }
    assert told["best"] is None
    assert told["started_at"] >= told["created_at"]
    checkpoint(database, lease, 200, {"fid-x": 30.0})
    checkpoint(database, lease, 400, {"fid-x": 10.0})
    checkpoint(database, lease, 600, {"fid-x": 20.0})
    told = read(jobs, here)
    assert (told["best"]["version"], told["best"]["images_seen"], told["best"]["value"]) == (2, 400, 10.0)
    assert told["best"]["metric"] == "fid-x"
    assert told["verdict"] is None
    few = Finding("few_pictures", "warning", "circle", "circle has 2 pictures")
    expected = Forecast(30.0, 20.0, 45.0, 25.0)
    with holding(database, lease) as (session, job):
        record_verdict(session, job, 600, [few], expected)
    told = read(jobs, here)
    assert told["verdict"] == {"images_seen": 600, "findings": [few.plain()], "forecast": expected.plain()}
    in_detail_only = {"configuration", "request_id"}
    assert read(jobs, "")["jobs"][0] == {name: told[name] for name in told.keys() - in_detail_only}

    saved = read(jobs, f"{here}/checkpoints")["checkpoints"]
    assert [one["images_seen"] for one in saved] == [600, 400, 200]
    assert [one["best"] for one in saved] == [False, True, False]
    assert [one["state_kept"] for one in saved] == [True, True, False]
    assert saved[1]["reference"] == "digits@2"
    assert saved[1]["digest"] == told["best"]["digest"]
    figures = read(jobs, f"{here}/evaluations")["evaluations"]
    assert [(one["images_seen"], one["value"]) for one in figures] == [(200, 30.0), (400, 10.0), (600, 20.0)]
    assert figures[0]["protocol"] == {"images": 100}
    assert figures[0]["protocol_string"] == "images=100"
    shown = {"metric", "value", "protocol_digest", "protocol_string"}
    assert figures[0].keys() == shown | {"images_seen", "version", "protocol", "seconds", "created_at"}
    assert (figures[0]["version"], figures[0]["seconds"]) == (1, 1.5)
    versions = jobs.client.get("/v1/models/digits").json()["newest"]
    assert versions[2]["evaluations"] == [{name: figures[0][name] for name in shown}]
    assert [[(one["value"], one["protocol_string"]) for one in version["evaluations"]] for version in versions] == [
        [(20.0, "images=100")],
        [(10.0, "images=100")],
        [(30.0, "images=100")],
    ]
    assert versions[0]["class_names"] == ["circle", "square"]

    with database.session() as session:
        broken(session, lease)
    told = read(jobs, here)
    assert told["status"] == "failed"
    assert told["failure"] == {"kind": "broken", "detail": "it broke; mend it"}
    assert told["progress"]["eta_seconds"] is None
    assert told["finished_at"] >= told["started_at"]


def test_metrics_are_columns_of_at_most_so_many_points(jobs: Service, database: Database) -> None:
    job = submit(jobs, overrides={"training.total_images": 1000})
    assert read(jobs, f"/{job['id']}/metrics")["loss"] == []
    lease = claim(database)
    for images in range(10, 1010, 10):
        metrics(database, lease, images, loss=images / 1000)
    whole = read(jobs, f"/{job['id']}/metrics")
    assert whole["images_seen"] == list(range(10, 1010, 10))
    assert whole["loss"] == pytest.approx([images / 1000 for images in range(10, 1010, 10)])
    assert {len(column) for column in whole.values()} == {100}
    assert list(whole) == [field.name for field in fields(CurvePoint) if field.name != "seconds_left"]
    four = read(jobs, f"/{job['id']}/metrics", points=4)
    assert four["images_seen"] == [250, 500, 750, 1000]
    assert four["loss"] == pytest.approx([0.13, 0.38, 0.63, 0.88])


def test_samples_and_log_lines(jobs: Service, database: Database) -> None:
    job = submit(jobs)
    lease = claim(database)
    with holding(database, lease) as (session, row):
        record_samples(session, row, 300, Artifacts(session).put(b"a picture"))
        append_log(session, row, [f"line {number} [bold] é" for number in range(1, 8)])
    found = read(jobs, f"/{job['id']}/samples")["samples"]
    assert [one["images_seen"] for one in found] == [300]
    picture = jobs.client.get(found[0]["picture"])
    assert (picture.headers["content-type"], picture.content) == ("image/png", b"a picture")
    again = jobs.client.get(found[0]["picture"], headers={"If-None-Match": picture.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert_problem(jobs.client.get(f"/v1/train-jobs/{job['id']}/samples/301"), 404)

    here = f"/{job['id']}/logs"
    seen: list[str] = []
    after = 0
    while lines := read(jobs, here, after=after, limit=3)["lines"]:
        seen += [line["line"] for line in lines]
        after = lines[-1]["number"]
    assert seen == [f"line {number} [bold] é" for number in range(1, 8)]
    text = jobs.client.get(f"/v1/train-jobs{here}", params={"after": 5}, headers={"Accept": "text/plain"})
    assert text.text == "line 6 [bold] é\nline 7 [bold] é\n"
    assert text.headers["darkroom-next-after"] == "7"
    assert_problem(jobs.client.get(f"/v1/train-jobs{here}", headers={"Accept": "image/png"}), 406)


def test_cancel_resume_and_retry_work_only_from_the_right_status(jobs: Service, database: Database) -> None:
    def ask(job: int, what: str) -> httpx.Response:
        return jobs.client.post(f"/v1/train-jobs/{job}/{what}")

    waiting, running, failing = (submit(jobs, priority=priority)["id"] for priority in (0, 2, 1))
    for what in ("resume", "retry"):
        assert "queued" in assert_problem(ask(waiting, what), 409)["detail"]
    assert ask(waiting, "cancel").json()["status"] == "cancelled"
    assert_problem(ask(waiting, "cancel"), 409)
    assert_problem(ask(waiting, "retry"), 409)
    assert ask(waiting, "resume").json()["status"] == "queued"

    lease = claim(database)
    assert lease.job_id == running
    for _ in range(2):  # asking twice changes nothing
        answer = ask(running, "cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    end(database, lease, stop)
    assert read(jobs, f"/{running}")["status"] == "cancelled"

    lease = claim(database)
    assert lease.job_id == failing
    end(database, lease, broken)
    assert_problem(ask(failing, "resume"), 409)
    again = ask(failing, "retry").json()
    assert (again["status"], again["failure"], again["finished_at"]) == ("queued", None, None)
    for what in ("cancel", "resume", "retry"):
        assert_problem(ask(12345, what), 404)
        assert_problem(ask(0, what), 422)


def test_only_train_jobs_are_found_here(jobs: Service, database: Database) -> None:
    with database.session() as session:
        other = Job(kind="sample", model_name="m", configuration={}, total_images=1)
        session.add(other)
    for path in ("", "/checkpoints", "/evaluations", "/samples", "/samples/0", "/metrics", "/logs", "/events"):
        for job_id in (other.id, other.id + 1):
            assert_problem(jobs.client.get(f"/v1/train-jobs/{job_id}{path}"), 404)
    assert_problem(jobs.client.post("/train-jobs", json={"from_job": other.id}), 422)
    assert read(jobs, "")["jobs"] == []


def test_a_hint_is_sent_for_each_idle_worker_and_no_more(tmp_path: Path, database_url: str, database: Database) -> None:
    redis = pytest.importorskip("redis")
    add_dataset(database)
    server = PrivateRedis(tmp_path / "redis")
    server.start()
    try:
        settings = {"database_url": database_url, "redis_url": server.url}
        with serving(tmp_path, wait_until_ready=False, **settings) as service, redis.from_url(server.url) as broker:
            submit(service)
            with database.session() as session:
                see_worker(session, "idle", "cpu", 1)
            for _ in range(20):
                job = submit(service)["id"]
            wait_until(lambda: broker.llen(QUEUE) == 1, "a hint")
            broker.flushall()
            service.client.post(f"/v1/train-jobs/{job}/cancel")
            service.client.post(f"/v1/train-jobs/{job}/resume")
            wait_until(lambda: broker.llen(QUEUE) == 1, "a hint after resuming")
        with redis.from_url(server.url) as broker:  # by now the service has sent all hints that were due
            assert broker.llen(QUEUE) == 1
    finally:
        server.stop()


def test_without_redis_the_service_still_queues_jobs(tmp_path: Path, database_url: str, database: Database) -> None:
    add_dataset(database)
    redis_url = f"redis://127.0.0.1:{free_port()}/0"
    with serving(tmp_path, wait_until_ready=False, database_url=database_url, redis_url=redis_url) as service:
        made = [submit(service)["id"] for _ in range(20)]
        assert [job["id"] for job in read(service, "")["jobs"]] == made[::-1]


def test_every_route_answers_503_without_a_database(tmp_path: Path) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    for settings in ({}, {"database_url": url}):
        with serving(tmp_path, wait_until_ready=False, **settings) as service:
            document = service.client.get("/openapi.json").json()["paths"]
            for path, routes in document.items():
                if not re.match(r"(/v1)?/(train-jobs|sweeps)", path):
                    continue
                for method, described in routes.items():
                    here = re.sub(r"\{\w+\}", "1", path)
                    body = {"recipe": "digits", "dataset": "shapes", "name": "n", "seeds": [1]}
                    if "train-jobs" in path:
                        body = {"recipe": "digits", "dataset": "shapes"}
                    if method == "patch":
                        body = {"keep": True}
                    options = {"json": body} if "requestBody" in described else {}
                    answer = service.client.request(method, here, **options)
                    assert_problem(answer, 503)
                    assert int(answer.headers["retry-after"]) >= 1
                    assert "503" in described["responses"]


def test_only_two_calls_have_an_address_without_v1(shared_jobs: Service) -> None:
    paths = shared_jobs.client.get("/openapi.json").json()["paths"]
    for short in ("/train-jobs", "/generate"):
        assert paths[short]["post"]["responses"] == paths[f"/v1{short}"]["post"]["responses"]
    resources = {path for path in paths if not path.startswith("/v1/")}
    assert resources == {"/generate", "/train-jobs", "/healthz", "/readyz", "/metrics"}
    for path in ("/train-jobs/1", "/models", "/generate-jobs", "/keys"):
        assert httpx.get(shared_jobs.client.base_url.join(path)).status_code == 404
    assert httpx.get(shared_jobs.client.base_url.join("/train-jobs")).status_code == 405


def test_more_devices_than_any_worker_has_are_refused_where_they_are_asked_for(
    jobs: Service, database: Database
) -> None:
    body = {"overrides": {"training.devices": 4}}
    submit(jobs, **body)  # nobody knows what the next worker will have
    see_measured(database, "gpu", device="cuda", devices=2)
    problem = refused(jobs, **body)
    assert [error["pointer"] for error in problem["errors"]] == ["/overrides/training.devices"]
    assert "is 4, and no worker has so many devices: gpu has 2" in problem["detail"]
    sweep = {"name": "s", "recipe": "digits", "dataset": "shapes", "grid": {"training.devices": [2, 4]}}
    problem = assert_problem(jobs.client.post("/v1/sweeps", json=sweep), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/grid/training.devices/1"]
    see_measured(database, "any")  # on a CPU, any number of processes can be started
    submit(jobs, **body)
    refused(jobs, **body, device="cuda")


def test_a_network_that_every_living_worker_lacks_is_refused_with_the_reason(jobs: Service, database: Database) -> None:
    inception = {"overrides": {"evaluation.extractor": "inception"}}
    submit(jobs, **inception)
    lacks = {"inception": "DARKROOM_INCEPTION_WEIGHTS is not set", "lpips": "the package lpips is not installed"}
    see_measured(database, "one", lacks=lacks)
    problem = refused(jobs, **inception)
    assert [error["pointer"] for error in problem["errors"]] == ["/overrides/evaluation.extractor"]
    assert "needs inception, which no worker has (one: DARKROOM_INCEPTION_WEIGHTS is not set)" in problem["detail"]
    problem = refused(jobs, overrides={"evaluation.metrics": ["fid", "lpips"]})
    assert [error["pointer"] for error in problem["errors"]] == ["/overrides/evaluation.metrics"]
    submit(jobs)
    see_measured(database, "other", lacks={})
    submit(jobs, **inception)
