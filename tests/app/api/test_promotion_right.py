"""An alias is moved by who has the right that PUT alias needs, whichever way it is moved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from store.database import Database
from store.job_repository import stop
from store.tables import Job
from tests.app.api.test_refusals import assert_problem
from tests.app.keyed import add_key, serving_keyed
from tests.app.training import add_dataset, broken, claim, end

BODY = {"recipe": "digits", "dataset": "shapes", "model": "tiny"}
BEST = {"promote": "best"}
SWEEP = {"name": "two", "seeds": [1, 2]}


@pytest.fixture
def clients(weights: Path, database: Database, database_url: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Of somebody who may train, and of somebody who may do all."""
    add_dataset(database)
    tokens = [add_key(database, *scopes, name=scopes[-1])[1] for scopes in (("generate", "train"), ("admin",))]
    with serving_keyed(weights, tokens, database_url=database_url) as served:
        train, admin = served.clients
        yield train, admin


def refused(answer: httpx.Response) -> None:
    problem = assert_problem(answer, 403)
    assert problem["type"] == "urn:darkroom:scope-missing"
    assert "has not the scope admin, which promote 'best' needs" in problem["detail"]
    assert problem["errors"] == [{"pointer": "/promote", "detail": "needs a key with the scope admin"}]
    assert 'error="insufficient_scope", scope="admin"' in answer.headers["www-authenticate"]


def test_a_key_that_may_train_trains_and_promotes_nothing(
    clients: tuple[httpx.Client, httpx.Client], database: Database
) -> None:
    train, admin = clients

    def made(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
        answer = client.post(path, json=BODY | body)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    with database.session() as session:
        before = session.scalar(select(func.count()).select_from(Job))
    refused(train.post("/train-jobs", json=BODY | BEST))
    refused(train.post("/v1/train-jobs", json=BODY | BEST | {"model": "of-nobody"}))
    refused(train.post("/sweeps", json=BODY | SWEEP | BEST))
    assert_problem(train.put("/v1/models/tiny/alias/production", json={"version": 1}), 403)
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == before

    assert made(train, "/train-jobs")["promote"] == "never"
    made(train, "/sweeps", **SWEEP)
    made(admin, "/sweeps", **SWEEP, **BEST)


def test_a_promoting_job_is_queued_again_by_who_may_promote(
    clients: tuple[httpx.Client, httpx.Client], database: Database
) -> None:
    train, admin = clients
    job = admin.post("/train-jobs", json=BODY | BEST).json()["links"]["self"]
    for way, how in (("resume", stop), ("retry", broken)):
        lease = claim(database)
        if how is stop:
            assert train.post(f"{job}/cancel").status_code == 202
        end(database, lease, how)
        refused(train.post(f"{job}/{way}"))
        assert admin.post(f"{job}/{way}").json()["status"] == "queued"
    plain = train.post("/train-jobs", json=BODY).json()["links"]["self"]
    assert train.post(f"{plain}/cancel").status_code == 202
    assert train.post(f"{plain}/resume").json()["status"] == "queued"
