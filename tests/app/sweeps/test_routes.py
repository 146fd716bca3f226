"""Laws of /sweeps: the whole grid is queued or nothing, and the comparison shows the jobs' results."""

import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from darkroom.store.database import Database
from darkroom.store.job_repository import get_job
from darkroom.store.tables import Evaluation, Job, Sweep
from tests.app.served import Service
from tests.app.test_refusals import assert_problem
from tests.app.training import broken, checkpoint, claim, end, metrics, see_measured, serving_jobs

GRID = {"optimizer.learning_rate": [1e-4, 3e-4], "model.unet.multipliers": [[1, 2], [1, 1]]}
BODY = {"name": "Größe [bold] $x$", "recipe": "digits", "dataset": "shapes", "model": "try", "grid": GRID}


@pytest.fixture
def sweeps(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path, database_url) as service:
        yield service


def make(service: Service, **change: Any) -> dict[str, Any]:
    answer = service.client.post("/v1/sweeps", json=BODY | change)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == found["links"]["self"]
    return found


def rows_of(database: Database, table: type[Job] | type[Sweep]) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_sweep_is_the_product_of_its_values(sweeps: Service, database: Database) -> None:
    made = make(sweeps, seeds=[1, 2, 3], priority=3, overrides={"training.total_images": 500})
    assert made == sweeps.client.get(f"/v1/sweeps/{made['id']}").json()
    assert made["fields"] == list(GRID)
    assert made["jobs"] == {"queued": 12}
    found = [(*row["values"].values(), row["seed"]) for row in made["rows"]]
    assert [(a, tuple(b), c) for a, b, c in found] == [
        (rate, tuple(multipliers), seed)
        for rate, multipliers, seed in itertools.product(*GRID.values(), (1, 2, 3))  # the last one varies fastest
    ]
    assert [row["model"] for row in made["rows"]] == [f"try-{number:02d}" for number in range(1, 13)]
    for row in made["rows"]:
        with database.session() as session:
            job = get_job(session, row["job_id"])
        recipe = job.configuration["recipe"]
        assert recipe["optimizer"]["learning_rate"] == row["values"]["optimizer.learning_rate"]
        assert recipe["model"]["unet"]["multipliers"] == row["values"]["model.unet.multipliers"]
        assert (recipe["training"]["seed"], recipe["training"]["total_images"]) == (row["seed"], 500)
        assert (job.sweep_id, job.priority, recipe["name"]) == (made["id"], 3, row["model"])
    told = sweeps.client.get(f"/v1/train-jobs/{made['rows'][0]['job_id']}").json()
    assert told["links"]["sweep"] == made["links"]["self"]


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"grid": {}}, "/grid", "varies"),
        ({"grid": {"optimizer.learning_rate": []}}, "/grid/optimizer.learning_rate", "at least 1"),
        ({"grid": {"optimizer.learning_rate": 3}}, "/grid/optimizer.learning_rate", "list"),
        ({"grid": {"optimizer.learning_rate": [1e-4, 1e-4]}}, "/grid/optimizer.learning_rate", "twice"),
        ({"grid": GRID | {"optimizer.learning_rate": [1e-4, -1.0]}}, "/grid/optimizer.learning_rate/1", "-1"),
        ({"grid": {"model.unet.width": [32, 33]}}, "/grid/model.unet.width/1", "combination 2 (width=33)"),
        ({"grid": {"model.unet.nothing": [1]}}, "/grid/model.unet.nothing/0", "not permitted"),
        ({"grid": {"model.unet": [{}], "model.unet.width": [32]}}, "/grid/model.unet.width", "model.unet"),
        ({"grid": {"training.seed": [1]}, "seeds": [1]}, "/seeds", "training.seed"),
        ({"grid": {"model": [1]}}, "/grid/model/0", ""),
        (
            {"grid": {"sampling": [{"steps": 50}, {"steps": 1000, "spacing": "edm"}]}},
            "/grid/sampling/1/steps",
            "between 1 and 992",
        ),
        ({"grid": {"name": ["a"]}}, "/grid/name/0", "model"),
        ({"grid": {"optimizer.learning_rate": [n / 1000 for n in range(1, 129)]}, "seeds": [1, 2, 3]}, "/grid", "384"),
        ({"grid": {f"a.b{n}": list(range(256)) for n in range(20)}}, "/grid", "256"),
        (
            {"grid": {"model.image_size": [16], "model.unet.image_size": [8]}},
            "/grid/model.unet.image_size",
            "is set by model.image_size",
        ),
        (
            {"grid": {"model": [{"image_size": 16}], "model.unet.image_size": [8]}},
            "/grid/model.unet.image_size",
            "is set by model",
        ),
        ({"seeds": []}, "/seeds", "at least 1"),
        ({"seeds": [1, 1]}, "/seeds", "twice"),
        ({"seeds": [-1]}, "/seeds/0", "0"),
        ({"seeds": [True]}, "/seeds/0", "integer"),
        ({"name": ""}, "/name", "at least 1"),
        ({"name": "a\0"}, "/name", "stored"),
        ({"model": "m" * 60}, "/model", "59"),
        ({"colour": 1}, "/colour", "not permitted"),
        ({"recipe": "nothing"}, "/recipe", "digits"),
    ],
)
def test_a_fault_in_one_combination_queues_none(
    shared_sweeps: Service, change: dict[str, Any], pointer: str, says: str
) -> None:
    problem = assert_problem(shared_sweeps.client.post("/v1/sweeps", json=BODY | change), 422)
    assert pointer in [error["pointer"] for error in problem["errors"]], problem
    assert says in problem["detail"]
    assert shared_sweeps.client.get("/v1/sweeps").json()["sweeps"] == []
    assert shared_sweeps.client.get("/v1/train-jobs").json()["jobs"] == []


@pytest.fixture(scope="module")
def shared_sweeps(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path_factory.mktemp("nothing"), module_database_url) as service:
        yield service


def test_an_object_as_value_changes_only_the_fields_that_it_names(sweeps: Service, database: Database) -> None:
    made = make(sweeps, grid={"model": [{"unet": {"width": 64}}, {"unet": {"dropout": 0.1}}]})
    with database.session() as session:
        found = [get_job(session, row["job_id"]).configuration["recipe"]["model"] for row in made["rows"]]
    assert [(one["unet"]["width"], one["unet"]["dropout"]) for one in found] == [(64, 0.0), (32, 0.1)]
    assert {(one["prediction"], one["image_size"]) for one in found} == {("v", 8)}


@pytest.mark.parametrize("name", ["model.image_size", "model.unet.image_size"])
def test_a_moved_field_is_compared_under_the_name_in_the_request(sweeps: Service, name: str) -> None:
    assert [row["values"] for row in make(sweeps, grid={name: [8]})["rows"]] == [{name: 8}]


def test_the_same_key_creates_one_sweep(sweeps: Service, database: Database) -> None:
    headers = {"Idempotency-Key": "once"}
    answers = [sweeps.client.post("/v1/sweeps", json=BODY, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert (rows_of(database, Sweep), rows_of(database, Job)) == (1, 4)
    assert_problem(sweeps.client.post("/v1/sweeps", json=BODY | {"name": "other"}, headers=headers), 422)


def test_the_comparison_shows_the_jobs_results(sweeps: Service, database: Database) -> None:
    made = make(sweeps, grid={"optimizer.learning_rate": [1e-4, 3e-4]}, seeds=[1, 2, 3])
    bests = {0: [9.0, 8.0], 1: [7.0, 6.5], 2: [5.0, 5.5], 3: [1.0, 2.0]}  # the other two jobs have not started
    for number, figures in bests.items():
        lease = claim(database)
        assert lease.job_id == made["rows"][number]["job_id"]
        metrics(database, lease, 100, loss=9.0)
        metrics(database, lease, 200, loss=1.0 - number / 10)
        for place, figure in enumerate(figures, 1):
            checkpoint(database, lease, 1000 * place, {"fid-x": figure, "other": -figure})
        end(database, lease, broken if number == 3 else lambda *_: None)

    here = f"/v1/sweeps/{made['id']}"
    told = sweeps.client.get(here).json()
    assert told["jobs"] == {"running": 3, "failed": 1, "queued": 2}
    assert (told["metric"], told["metrics"]) == ("fid-x", ["fid-x", "other"])
    lowest = [min(figures) for figures in bests.values()]
    assert [row["best"] and row["best"]["value"] for row in told["rows"]] == [*lowest, None, None]
    assert [row["best"] and row["best"]["images_seen"] for row in told["rows"]] == [2000, 2000, 1000, 1000, None, None]
    assert [row["loss"] for row in told["rows"]] == [1.0, 0.9, 0.8, 0.7, None, None]
    first, second = told["groups"]
    assert first["best"]["mean"] == pytest.approx(statistics.fmean(lowest[:3]))
    assert first["best"]["sd"] == pytest.approx(statistics.stdev(lowest[:3]))
    assert first["best"]["count"] == 3
    assert second["best"] == {"count": 1, "mean": 1.0, "sd": None}
    assert second["job_ids"] == [row["job_id"] for row in told["rows"][3:]]

    other = sweeps.client.get(here, params={"metric": "other"}).json()
    assert other["metric"] == "other"
    assert other["rows"][0]["best"]["value"] == -max(bests[0])
    for bad in ({"metric": "nothing"}, {"metric": "\0"}):
        assert_problem(sweeps.client.get(here, params=bad), 422)


def test_figures_of_unequal_protocols_are_marked(sweeps: Service, database: Database) -> None:
    made = make(sweeps, grid={"optimizer.learning_rate": [1e-4, 3e-4]}, seeds=[1, 2])
    for number in range(4):
        lease = claim(database)
        metrics(database, lease, 100)
        checkpoint(database, lease, 1000, {"fid-x": 5.0 + number})
        end(database, lease)
    here = f"/v1/sweeps/{made['id']}"
    before = sweeps.client.get(here).json()
    assert [one["other_protocol"] for one in (*before["rows"], *before["groups"])] == [False] * 6
    assert {row["best"]["protocol_digest"] for row in before["rows"]} == {before["protocol"]}
    with database.session() as session:
        other = update(Evaluation).where(Evaluation.metric == "fid-x", Evaluation.value == 7.0)
        session.execute(other.values(protocol_digest="sha256:" + "0" * 64))
    after = sweeps.client.get(here).json()
    assert after["protocol"] == before["protocol"]
    assert [row["other_protocol"] for row in after["rows"]] == [False, False, True, False]
    assert [group["other_protocol"] for group in after["groups"]] == [False, True]
    assert [group["best"] and group["best"]["mean"] for group in after["groups"]] == [5.5, None]


def test_a_sweep_says_how_long_all_its_jobs_take_and_more_than_a_day_needs_a_word(
    sweeps: Service, database: Database
) -> None:
    assert make(sweeps)["expected_seconds"] is None
    see_measured(database, "worker", 50.0)
    hours = {"grid": {"training.minutes": [180, 360, 899]}}
    made = make(sweeps, **hours)
    assert made["expected_seconds"] == 60.0 * (180 + 360 + 899)
    with database.session() as session:
        jobs = [get_job(session, row["job_id"]).configuration for row in made["rows"]]
    assert [one["expected_seconds"] for one in jobs] == [60.0 * 180, 60.0 * 360, 60.0 * 899]

    days = BODY | {"grid": {"training.minutes": [720, 721]}}
    problem = assert_problem(sweeps.client.post("/v1/sweeps", json=days), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/long"]
    assert "2 jobs are expected to run for about 24.0 hours, one after another" in problem["detail"]
    assert make(sweeps, **(days | {"long": True}))["expected_seconds"] == 60.0 * 1441
    made = make(sweeps, grid={"model.unet.width": [32, 64]}, overrides={"training.total_images": 5000})
    with database.session() as session:
        jobs = [get_job(session, row["job_id"]).configuration for row in made["rows"]]
    assert jobs[0]["expected_seconds"] < jobs[1]["expected_seconds"]


def test_cancelling_a_sweep_leaves_finished_jobs(sweeps: Service, database: Database) -> None:
    made = make(sweeps)
    done = claim(database)
    end(database, done)
    running = claim(database)
    for _ in range(2):
        answer = sweeps.client.post(f"/v1/sweeps/{made['id']}/cancel")
        assert answer.status_code == 202
        assert answer.json()["jobs"] == {"succeeded": 1, "cancelling": 1, "cancelled": 2}
    assert answer.json()["rows"][1]["job_id"] == running.job_id
    assert answer.json()["rows"][1]["status"] == "cancelling"
    end(database, running)
    problem = assert_problem(sweeps.client.post(f"/v1/sweeps/{made['id']}/cancel"), 409)
    assert problem["type"] == "/docs/errors#job-conflict"
    assert_problem(sweeps.client.post("/v1/sweeps/99/cancel"), 404)


def test_sweeps_are_listed_newest_first(sweeps: Service) -> None:
    ids = [make(sweeps, name=f"number {number}", grid={}, seeds=[number])["id"] for number in range(3)]
    first = sweeps.client.get("/v1/sweeps", params={"limit": 2}).json()
    assert [one["id"] for one in first["sweeps"]] == [ids[2], ids[1]]
    assert first["sweeps"][0]["name"] == "number 2"
    assert first["sweeps"][0]["jobs"] == {"queued": 1}
    last = sweeps.client.get("/v1/sweeps", params={"limit": 2, "before": first["next_before"]}).json()
    assert ([one["id"] for one in last["sweeps"]], last["next_before"]) == ([ids[0]], None)
    assert_problem(sweeps.client.get("/v1/sweeps/99"), 404)
    for path in ("/v1/sweeps/0", "/v1/sweeps/x", "/v1/sweeps?limit=0", "/v1/sweeps?before=0"):
        assert_problem(sweeps.client.get(path), 422)


def test_a_body_that_is_no_request_is_refused(shared_sweeps: Service) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/sweeps", "/v1/train-jobs"):
        assert_problem(shared_sweeps.client.post(path, content=b"{", headers=headers), 400)
        assert_problem(shared_sweeps.client.post(path, content=b"{}", headers={"Content-Type": "text/plain"}), 415)
        assert_problem(shared_sweeps.client.post(path, content=json.dumps([]), headers=headers), 422)
        assert_problem(shared_sweeps.client.post(path, content=b" " * (1 << 21), headers=headers), 413)
