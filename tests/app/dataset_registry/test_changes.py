"""Laws of renaming and deleting data sets: jobs keep a renamed one, and a deletion says first what uses it."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from sqlalchemy import text

from darkroom.store.database import Database
from darkroom.store.dataset_repository import get_dataset, keep_dataset
from darkroom.store.job_repository import get_job, stop
from tests.app.keyed import add_key, serving_keyed
from tests.app.served import Service
from tests.app.test_refusals import assert_problem
from tests.app.training import SHAPES, add_dataset, broken, claim, end, serving_jobs
from tests.processes import wait_until

UPLOAD = {"name": "clothes", "format": "npz"}
ODD = "Größe 形?#"


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path, database_url) as service:
        yield service


def _submit(service: Service, dataset: str = "shapes") -> int:
    answer = service.client.post("/v1/train-jobs", json={"recipe": "digits", "dataset": dataset})
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def _names(service: Service) -> list[str]:
    return [one["name"] for one in service.client.get("/v1/datasets").json()["datasets"]]


def _audited(service: Service, action: str) -> list[tuple[str, Any]]:
    events = service.client.get("/v1/audit-events", params={"action": action}).json()["audit_events"]
    return [(event["target"], event["data"]) for event in events]


def test_a_renamed_data_set_keeps_its_content_and_jobs(served: Service, database: Database) -> None:
    add_dataset(database, "taken", SHAPES)
    job = _submit(served)
    before = served.client.get("/v1/datasets/shapes").json()
    answer = served.client.patch("/v1/datasets/shapes", json={"name": ODD})
    assert answer.status_code == 200, answer.text
    address = f"/v1/datasets/{quote(ODD, safe='')}"
    assert answer.json() == before | {"name": ODD, "contact_sheet": f"{address}/contact-sheet"}
    assert served.client.get(address).json() == answer.json()
    assert served.client.get("/v1/datasets/shapes").status_code == 404
    assert served.client.get(f"/v1/train-jobs/{job}").json()["dataset"] == ODD
    assert served.client.patch(address, json={"name": ODD}).json() == answer.json()
    assert _audited(served, "dataset.renamed")[-1] == ("datasets/shapes", {"to": ODD})

    problem = assert_problem(served.client.patch(address, json={"name": "taken"}), 409)
    assert problem["type"] == "/docs/errors#dataset-exists"
    assert problem["existing"] == "/v1/datasets/taken"
    assert_problem(served.client.patch("/v1/datasets/none", json={"name": "new"}), 404)
    for name in ("", "a/b", " a", "x" * 101, None):
        assert assert_problem(served.client.patch(address, json={"name": name}), 422)["errors"][0]["pointer"] == "/name"
    assert _names(served) == [ODD, "taken"]


@pytest.mark.parametrize(("how", "status"), [(broken, "failed"), (stop, "cancelled"), (None, "succeeded")])
def test_a_data_set_of_ended_jobs_is_deleted_with_force_only(
    served: Service, database: Database, how: Callable[..., object] | None, status: str
) -> None:
    job = _submit(served)
    if how is stop:
        served.client.post(f"/v1/train-jobs/{job}/cancel")
    else:
        end(database, claim(database), *([] if how is None else [how]))
    problem = assert_problem(served.client.delete("/v1/datasets/shapes"), 409)
    assert problem["type"] == "/docs/errors#in-use"
    assert problem["dependents"] == [
        {"resource": f"/v1/train-jobs/{job}", "reason": f"({status}) used it", "blocks": False}
    ]
    assert "force" in problem["detail"]
    assert _names(served) == ["shapes"]

    assert served.client.delete("/v1/datasets/shapes", params={"force": True}).status_code == 204
    assert _names(served) == []
    assert served.client.get(f"/v1/train-jobs/{job}").json()["dataset"] is None
    ((target, data),) = _audited(served, "dataset.deleted")
    assert (target, data) == ("datasets/shapes", {"digest": SHAPES.digest, "images": 100})


def test_an_unfinished_job_prevents_the_deletion(served: Service, database: Database) -> None:
    ended = _submit(served)
    end(database, claim(database))
    queued = _submit(served)
    for force in (False, True):
        problem = assert_problem(served.client.delete("/v1/datasets/shapes", params={"force": force}), 409)
        assert [one["resource"] for one in problem["dependents"]] == [
            f"/v1/train-jobs/{queued}",
            f"/v1/train-jobs/{ended}",
        ]
        assert [one["blocks"] for one in problem["dependents"]] == [True, False]
        assert f"train-jobs/{queued} (queued)" in problem["detail"]
        assert f"train-jobs/{ended} " not in problem["detail"]
    assert _names(served) == ["shapes"]
    with database.session() as session:
        assert get_job(session, ended).dataset_id == get_job(session, queued).dataset_id is not None


def test_a_deleted_name_is_free_again_and_its_idempotency_key_too(served: Service) -> None:
    content = _npz()
    headers = {"Idempotency-Key": "once"}
    for _ in range(2):
        answer = served.client.post("/v1/datasets", params=UPLOAD, content=content, headers=headers)
        assert answer.status_code == 201, answer.text
        again = served.client.post("/v1/datasets", params=UPLOAD, content=content, headers=headers)
        assert (again.status_code, again.json()) == (200, answer.json())
        assert served.client.delete("/v1/datasets/clothes").status_code == 204
        assert_problem(served.client.delete("/v1/datasets/clothes"), 404)
    assert _names(served) == ["shapes"]


def test_a_corrected_upload_replaces_a_data_set_and_jobs_keep_theirs(served: Service, database: Database) -> None:
    client = served.client
    query = {"format": "npz"}
    first = client.put("/v1/datasets/clothes", params=query, content=_npz())
    assert (first.status_code, first.json()["version"], first.json()["replaced"]) == (201, 1, False)
    assert client.put("/v1/datasets/clothes", params=query, content=_npz()).status_code == 200
    job = _submit(served, "clothes")

    corrected = client.put("/v1/datasets/clothes", params=query, content=_npz(1))
    assert (corrected.status_code, corrected.json()["version"]) == (201, 2)
    assert corrected.headers["location"] == "/v1/datasets/clothes"
    assert client.get("/v1/datasets/clothes").json() == corrected.json() != first.json()
    kept = client.get("/v1/datasets/clothes@1").json()
    assert (kept["digest"], kept["replaced"]) == (first.json()["digest"], True)
    assert client.get(f"/v1/train-jobs/{job}").json()["dataset"] == "clothes@1"
    assert _submit(served, "clothes") != job
    assert _names(served) == ["clothes", "shapes"]

    again = client.put("/v1/datasets/clothes", params=query, content=_npz(2)).json()
    assert again["version"] == 3
    earlier = client.get("/v1/datasets", params={"earlier_of": "clothes"}).json()["datasets"]
    assert [(one["name"], one["version"]) for one in earlier] == [("clothes@1", 1), ("clothes@2", 2)]
    assert _audited(served, "dataset.registered")[-1][1].get("version", 1) in (1, 3)
    assert client.delete("/v1/datasets/clothes").status_code == 204
    assert _names(served) == ["clothes@1", "clothes@2", "shapes"]  # nothing hides them any more
    assert client.get("/v1/datasets/clothes@1").json()["replaced"] is False

    for path, name in (("/v1/datasets", "earlier_of"), ("/v1/datasets/shapes/check", "against")):
        problem = assert_problem(client.get(path, params={name: "none"}), 422)
        assert problem["errors"][0]["pointer"] == name
    named = client.put("/v1/datasets/clothes", params={"name": "x", "format": "npz"}, content=_npz())
    assert assert_problem(named, 422)["errors"][0]["pointer"] == "name"
    body = client.put("/v1/datasets/digits", json={"format": "digits", "name": "x"})
    assert assert_problem(body, 422)["errors"][0]["pointer"] == "/name"
    assert client.put("/v1/datasets/digits", json={"format": "digits"}).status_code == 201
    assert_problem(client.put("/v1/datasets/shapes", params=query, content=b"no archive"), 422)
    add_dataset(database, "shapes@1")
    conflict = assert_problem(client.put("/v1/datasets/shapes", params=query, content=_npz()), 409)
    assert conflict["existing"] == "/v1/datasets/shapes%401"
    assert client.get("/v1/datasets/shapes").json()["digest"] == SHAPES.digest


def test_nobody_can_take_a_name_of_an_earlier_version(served: Service) -> None:
    client, query = served.client, {"format": "npz"}
    taken = (
        client.post("/v1/datasets", params=query | {"name": "shapes@1"}, content=_npz()),
        client.post("/v1/datasets", json={"format": "digits", "name": "shapes@12"}),
        client.put("/v1/datasets/shapes@1", params=query, content=_npz()),
        client.patch("/v1/datasets/shapes", json={"name": "shapes@1"}),
    )
    for answer in taken:
        assert "names an earlier version" in assert_problem(answer, 422)["detail"]
    assert client.put("/v1/datasets/shapes", params=query, content=_npz()).status_code == 201


def test_simultaneous_replacements_are_versions_one_after_the_other(served: Service) -> None:
    def put(value: int) -> int:
        answer = served.client.put("/v1/datasets/clothes", params={"format": "npz"}, content=_npz(value))
        return int(answer.status_code)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(put, range(4))) == {201}
    assert served.client.get("/v1/datasets/clothes").json()["version"] == 4
    earlier = served.client.get("/v1/datasets", params={"earlier_of": "clothes"}).json()["datasets"]
    assert [one["version"] for one in earlier] == [1, 2, 3]


def test_a_deletion_waits_for_the_submission_that_names_the_data_set(served: Service, database: Database) -> None:
    with ThreadPoolExecutor(1) as pool:
        with database.session() as session:
            keep_dataset(session, get_dataset(session, "shapes"))  # as a submission does
            deleting = pool.submit(served.client.delete, "/v1/datasets/shapes")
            wait_until(lambda: _waits_for_lock(database), "the deletion waits")
            assert not deleting.done()
        assert deleting.result().status_code == 204


def test_changes_need_the_scope_train(weights: Path, database_url: str, database: Database) -> None:
    add_dataset(database)
    tokens = [add_key(database, scope)[1] for scope in ("generate", "train")]
    with serving_keyed(weights, tokens, database_url=database_url) as keyed:
        generate, train = keyed.clients
        for client in (keyed.bare, generate):
            assert client.patch("/v1/datasets/shapes", json={"name": "new"}).status_code in (401, 403)
            assert client.delete("/v1/datasets/shapes").status_code in (401, 403)
            assert client.put("/v1/datasets/shapes", json={"format": "digits"}).status_code in (401, 403)
            assert client.get("/v1/datasets/shapes/pictures").status_code in (401, 403)
        assert train.patch("/v1/datasets/shapes", json={"name": "new"}).status_code == 200
        assert train.delete("/v1/datasets/new").status_code == 204


def _waits_for_lock(database: Database) -> bool:
    with database.session() as session:
        return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def _npz(value: int = 0) -> bytes:
    buffer = io.BytesIO()
    images = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    images[0, 0, 0] = value
    np.savez(buffer, images=images, labels=np.array([0, 0, 1, 1]), class_names=np.array(["a", "b"]))
    return buffer.getvalue()
