"""Laws of deletions: each says first what hangs on a thing, and what is marked to be kept stays."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from darkroom.store.artifacts import Artifacts
from darkroom.store.clock import seconds
from darkroom.store.database import Database
from darkroom.store.generate_repository import submit_generate_job
from darkroom.store.job_forms import GenerateRun
from darkroom.store.job_repository import Lease, stop
from darkroom.store.model_repository import resolve
from darkroom.store.part_repository import record_result
from darkroom.store.retention import expire
from darkroom.store.run_repository import append_log, record_samples
from darkroom.store.tables import Base, Job, ModelAlias
from tests.app.served import Service, tiny_weights
from tests.app.test_refusals import assert_problem
from tests.app.training import broken, checkpoint, claim, end, holding, metrics, serving_jobs
from tests.generate_jobs import RUN
from tests.generate_jobs import claim as claim_any

Reason = tuple[str, str, bool]


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path, database_url) as service:
        yield service


def _submit(service: Service, **body: Any) -> int:
    answer = service.client.post("/v1/train-jobs", json={"recipe": "digits", "dataset": "shapes"} | body)
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def _trained(
    service: Service, database: Database, how: Callable[..., object] | None = None, **body: Any
) -> tuple[int, Lease]:
    """Run a job with a checkpoint, a curve, a log and a sample grid to its end."""
    job = _submit(service, **body)
    lease = claim(database)
    assert lease.job_id == job
    metrics(database, lease, 50)
    metrics(database, lease, 100)
    checkpoint(database, lease, 100, {"fid-x": 3.0}, tiny_weights(seed=job))
    with holding(database, lease) as (session, row):
        append_log(session, row, ["a line"])
        record_samples(session, row, 100, Artifacts(session).put(f"grid {job}".encode()))
    end(database, lease, *([] if how is None else [how]))
    return job, lease


def _reasons(found: Any) -> list[Reason]:
    return [(one["resource"].removeprefix("/v1/"), one["reason"], one["blocks"]) for one in found["dependents"]]


def _refused(service: Service, address: str, **query: Any) -> list[Reason]:
    """Check that a deletion is refused, and that a dry run says so before; return what hangs on the thing."""
    tried = service.client.delete(address, params={"dry_run": True} | query)
    assert tried.status_code == 200, tried.text
    problem = assert_problem(service.client.delete(address, params=query), 409)
    assert problem["type"] == "/docs/errors#in-use"
    assert tried.json()["dependents"] == problem["dependents"]
    assert tried.json()["blocked"] == any(one["blocks"] for one in problem["dependents"])
    assert service.client.get(address).status_code == 200
    return _reasons(problem)


def _deleted(service: Service, address: str, **query: Any) -> None:
    """Check that a thing is deleted, and that a dry run deletes nothing before."""
    tried = service.client.delete(address, params={"dry_run": True} | query)
    assert tried.status_code == 200, tried.text
    assert not tried.json()["blocked"]
    assert service.client.get(address).status_code == 200
    assert service.client.delete(address, params=query).status_code == 204
    assert_problem(service.client.get(address), 404)
    assert_problem(service.client.delete(address, params=query), 404)


def _audited(service: Service, action: str) -> list[tuple[str, Any]]:
    events = service.client.get("/v1/audit-events", params={"action": action}).json()["audit_events"]
    return [(event["target"], event["data"]) for event in events]


def _counts(database: Database) -> dict[str, int]:
    """Count the records of each table, without those that only grow."""
    with database.session() as session:
        tables = (
            table
            for table in Base.metadata.sorted_tables
            if table.name not in ("audit_events", "counters", "counter_slots")
        )
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def test_a_deleted_train_job_leaves_only_its_versions(served: Service, database: Database) -> None:
    before = _counts(database)
    job, _ = _trained(served, database)
    _deleted(served, f"/v1/train-jobs/{job}")
    left = {name: number - before[name] for name, number in _counts(database).items() if number != before[name]}
    # bytes that nothing uses any more are collected later
    assert left.pop("artifacts") == left.pop("artifact_chunks") == 3
    assert left == {"models": 1, "checkpoints": 1, "evaluations": 1}
    assert served.client.get("/v1/models/digits/versions/1").json()["kept"]
    assert _audited(served, "train-job.deleted") == [(f"train-jobs/{job}", {"model": "digits"})]


def test_an_unfinished_job_is_not_deleted(served: Service, database: Database) -> None:
    job = _submit(served)
    for status in ("queued", "running"):
        for force in (False, True):
            assert _refused(served, f"/v1/train-jobs/{job}", force=force) == [
                (f"train-jobs/{job}", f"is {status}", True)
            ]
        if status == "queued":
            lease = claim(database)
    end(database, lease)
    _deleted(served, f"/v1/train-jobs/{job}")


def test_a_job_with_a_mark_is_not_deleted_until_it_is_taken_off(served: Service, database: Database) -> None:
    job, _ = _trained(served, database)
    address = f"/v1/train-jobs/{job}"
    assert served.client.get(address).json()["keep"] is False
    marked = served.client.patch(address, json={"keep": True})
    assert marked.status_code == 200, marked.text
    assert marked.json() == served.client.get(address).json()
    assert marked.json()["keep"] is True
    assert _refused(served, address, force=True) == [(f"train-jobs/{job}", "is marked to be kept", True)]
    assert served.client.patch(address, json={"keep": False}).json()["keep"] is False
    assert [data for _, data in _audited(served, "train-job.marked")] == [{"keep": False}, {"keep": True}]
    for body in ({}, {"keep": None}, {"keep": 1}, {"keep": True, "more": 1}):
        assert_problem(served.client.patch(address, json=body), 422)
    assert_problem(served.client.patch("/v1/train-jobs/99", json={"keep": True}), 404)
    _deleted(served, address)


def test_a_continued_job_is_deleted_with_force_once_the_other_has_ended(served: Service, database: Database) -> None:
    parent, _ = _trained(served, database)
    more = {"training.total_images": 20_000}
    child = _submit(served, recipe=None, dataset=None, from_job=parent, model="more", overrides=more)
    address = f"/v1/train-jobs/{parent}"
    assert _refused(served, address, force=True) == [(f"train-jobs/{child}", "(queued) begins with its state", True)]
    end(database, claim(database), broken)
    assert _refused(served, address) == [(f"train-jobs/{child}", "(failed) has continued it", False)]
    _deleted(served, address, force=True)
    assert served.client.get(f"/v1/train-jobs/{child}").json()["parent_id"] is None
    problem = assert_problem(served.client.post(f"/v1/train-jobs/{child}/retry"), 409)
    assert problem["type"] == "/docs/errors#state-not-kept"
    assert f"job {parent}" in problem["detail"]


def test_a_sweep_is_deleted_with_its_ended_jobs(served: Service, database: Database) -> None:
    body = {"name": "s", "recipe": "digits", "dataset": "shapes", "model": "try", "seeds": [1, 2]}
    made = served.client.post("/v1/sweeps", json=body).json()
    first, second = (row["job_id"] for row in made["rows"])
    address = f"/v1/sweeps/{made['id']}"
    end(database, claim(database))
    expected = [
        (f"train-jobs/{second}", "is queued", True),
        (f"train-jobs/{first}", "(succeeded) is deleted with it", False),
    ]
    assert _refused(served, address, force=True) == expected
    assert _refused(served, f"/v1/train-jobs/{first}") == [(f"sweeps/{made['id']}", "compares it with others", False)]
    end(database, claim(database), broken)
    assert [blocks for _, _, blocks in _refused(served, address)] == [False, False]
    _deleted(served, address, force=True)
    for job in (first, second):
        assert_problem(served.client.get(f"/v1/train-jobs/{job}"), 404)
    assert _audited(served, "sweep.deleted") == [(f"sweeps/{made['id']}", {"name": "s", "jobs": 2})]


def _drawn(database: Database, model: str) -> int:
    """Queue a generate job of a model's first version; returns its id."""
    run = GenerateRun.model_validate(RUN | {"class_indices": (0,)})
    with database.session() as session:
        return submit_generate_job(session, resolve(session, model, 1), run, shard_images=100)[0].id


def _store_result(database: Database, generate_job: int) -> None:
    """End a generate job's only job, with a result."""
    _, lease = claim_any(database)
    with database.session() as session:
        record_result(session, lease, BytesIO(b"archive"))
    end(database, lease)


def test_a_generate_job_is_deleted_with_its_result(served: Service, database: Database) -> None:
    _trained(served, database)
    before = _counts(database)
    job = _drawn(database, "digits")
    address = f"/v1/generate-jobs/{job}"
    assert _refused(served, address) == [(f"generate-jobs/{job}", "is not finished", True)]
    _store_result(database, job)
    _deleted(served, address)
    left = {name: number - before[name] for name, number in _counts(database).items() if number != before[name]}
    assert left == {"artifacts": 1, "artifact_chunks": 1}
    assert served.client.get("/v1/storage").json()["unused_bytes"] == len(b"archive")
    assert _audited(served, "generate-job.deleted") == [(f"generate-jobs/{job}", {"images": 4})]


def test_a_model_is_deleted_with_everything_that_only_it_needs(served: Service, database: Database) -> None:
    other, _ = _trained(served, database, model="other")
    before = _counts(database)
    job, _ = _trained(served, database)
    promoted = served.client.put("/v1/models/digits/alias/production", json={"version": 1})
    assert promoted.status_code == 200, promoted.text
    with database.session() as session:
        session.add(ModelAlias(model_id=resolve(session, "digits", 1).model_id, alias="best", checkpoint_id=2))
    drawn = _drawn(database, "digits")
    running = _submit(served)
    address = "/v1/models/digits"
    blocking = [
        (f"train-jobs/{running}", "(queued) trains it", True),
        (f"generate-jobs/{drawn}", "is not finished", True),
    ]
    found = _refused(served, address, force=True)
    assert [one for one in found if one[2]] == blocking
    served.client.post(f"/v1/train-jobs/{running}/cancel")
    _store_result(database, drawn)
    ended = [
        ("models/digits/alias/best", "points at version 1", False),
        ("models/digits/alias/production", "points at version 1", False),
        (f"train-jobs/{job}", "(succeeded) has trained it, and loses its checkpoints and states", False),
        (f"generate-jobs/{drawn}", "has drawn with it, and is deleted with its result", False),
    ]
    assert _refused(served, address) == ended

    version = f"{address}/versions/1"
    assert served.client.patch(version, json={"keep": True}).json()["keep"] is True
    assert _refused(served, address, force=True)[0] == ("models/digits/versions/1", "is marked to be kept", True)
    assert _refused(served, version, force=True)[0] == ("models/digits/versions/1", "is marked to be kept", True)
    served.client.patch(version, json={"keep": False})

    _deleted(served, address, force=True)
    left = {name: number - before[name] for name, number in _counts(database).items() if number != before[name]}
    del left["artifacts"], left["artifact_chunks"]
    assert left == {"jobs": 2, "job_metrics": 2, "job_events": left["job_events"], "job_log_lines": 1, "job_samples": 1}
    told = served.client.get(f"/v1/train-jobs/{job}").json()
    assert (told["best"], told["removed"]["states"]["why"]) == (None, "deleted with its model")
    assert served.client.get(f"/v1/train-jobs/{job}/checkpoints").json()["checkpoints"] == []
    assert served.client.get(f"/v1/train-jobs/{other}/checkpoints").json()["checkpoints"] != []
    assert _audited(served, "model.deleted") == [("models/digits", {"versions": 1})]
    assert {target for target, _ in _audited(served, "alias.deleted")} == {
        "models/digits/alias/best",
        "models/digits/alias/production",
    }


def test_a_job_without_its_state_says_so_and_is_not_resumed(served: Service, database: Database) -> None:
    failed, _ = _trained(served, database, broken)
    cancelled = _submit(served, model="cancelled")
    served.client.post(f"/v1/train-jobs/{cancelled}/cancel")
    address = f"/v1/train-jobs/{failed}"
    assert served.client.get(address).json()["removed"] == {}
    with database.session() as session:
        session.execute(update(Job).values(finished_at=func.now() - seconds(8 * 86_400.0)))
    with database.session() as session:
        assert [(job.id, records) for job, records in expire(session, "states", 7.0).items()] == [(failed, 1)]
    removed = served.client.get(address).json()["removed"]
    assert removed["states"]["why"] == "removed after 7 days"
    assert list(removed) == ["states"]
    retried = assert_problem(served.client.post(f"{address}/retry"), 409)
    body = {"from_job": failed, "model": "more"}
    continued = assert_problem(served.client.post("/v1/train-jobs", json=body), 409)
    for problem in (retried, continued):
        assert problem["type"] == "/docs/errors#state-not-kept"
        assert "removed after 7 days" in problem["detail"]
    assert "from_model" in retried["detail"]
    assert served.client.get(address).json()["status"] == "failed"
    # a job that has saved nothing loses nothing, and begins anew
    assert served.client.post(f"/v1/train-jobs/{cancelled}/resume").status_code == 202


def test_a_data_set_with_a_mark_is_not_deleted(served: Service) -> None:
    address = "/v1/datasets/shapes"
    assert served.client.patch(address, json={"keep": True, "name": "forms"}).json()["keep"] is True
    address = "/v1/datasets/forms"
    assert _refused(served, address, force=True) == [("datasets/forms", "is marked to be kept", True)]
    assert served.client.patch(address, json={"keep": False}).json()["keep"] is False
    for body in ({}, {"keep": None}, {"name": None}):
        assert_problem(served.client.patch(address, json=body), 422)
    _deleted(served, address)


def test_a_stream_of_events_ends_although_most_were_deleted(served: Service, database: Database) -> None:
    job, _ = _trained(served, database, stop)
    served.client.post(f"/v1/train-jobs/{job}/cancel")
    with database.session() as session:
        session.execute(update(Job).values(finished_at=func.now() - seconds(86_400.0)))
    with database.session() as session:
        expire(session, "events", 0.5)
    text = served.client.get(f"/v1/train-jobs/{job}/events").text
    assert [line for line in text.splitlines() if line.startswith("event")] == [
        "event: status",
        "event: progress",
        "event: end",
    ]
