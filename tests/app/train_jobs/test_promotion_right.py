"""Law of promotion: a train job or a sweep can move an alias only with the scope that PUT alias needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from darkroom.model.config import Recipe
from darkroom.store.database import Database
from darkroom.store.job_repository import events_after, stop, submit_job
from darkroom.store.model_repository import PRODUCTION, get_model
from darkroom.store.promotion import promote_best
from darkroom.store.tables import Job
from tests.app.keyed import add_key, serving_keyed
from tests.app.test_refusals import assert_problem
from tests.app.training import add_dataset, broken, checkpoint, claim, configuration, end, holding

BODY = {"recipe": "digits", "dataset": "shapes", "model": "tiny"}
BEST = {"promote": "best"}
SWEEP = {"name": "two", "seeds": [1, 2]}


@pytest.fixture
def clients(weights: Path, database: Database, database_url: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two clients of one group: one whose key has the scopes generate and train, one with the scope admin."""
    add_dataset(database)
    tokens = [
        add_key(database, *scopes, name=scopes[-1], group="lab")[1] for scopes in (("generate", "train"), ("admin",))
    ]
    with serving_keyed(weights, tokens, database_url=database_url) as served:
        train, admin = served.clients
        yield train, admin


def refused(answer: httpx.Response) -> None:
    problem = assert_problem(answer, 403)
    assert problem["type"] == "/docs/errors#scope-missing"
    assert "does not have the scope admin, which promote 'best' needs" in problem["detail"]
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
    refused(train.post("/v1/sweeps", json=BODY | SWEEP | BEST))
    assert_problem(train.put("/v1/models/tiny/alias/production", json={"version": 1}), 403)
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == before

    assert made(train, "/train-jobs")["promote"] == "never"
    made(train, "/v1/sweeps", **SWEEP)
    made(admin, "/v1/sweeps", **SWEEP, **BEST)


@pytest.mark.parametrize(("evaluates", "promotes"), [(True, False), (False, True)])
def test_where_every_evaluation_failed_production_stays(database: Database, evaluates: bool, promotes: bool) -> None:
    recipe = Recipe.model_validate(configuration() | {"name": "tiny", "dataset": {"format": "digits"}})
    if not evaluates:
        recipe = recipe.model_copy(update={"evaluation": None})
    work = {"recipe": recipe.model_dump(mode="json"), "keep_last": 1}
    with database.session() as session:
        fields: dict[str, Any] = {"configuration": work, "total_images": 100, "promote": "best"}
        submit_job(session, kind="train", model_name="tiny", **fields)
    lease = claim(database)
    checkpoint(database, lease, 100)
    with holding(database, lease) as (session, job):
        assert (promote_best(session, job) is not None) is promotes
    with database.session() as session:
        kinds = [event.kind for event in events_after(session, lease.job_id, 0)]
        assert (kinds[-1], PRODUCTION in get_model(session, "tiny").aliases) == (
            ("promoted", True) if promotes else ("not_promoted", False)
        )


def test_only_a_key_that_may_promote_queues_a_promoting_job_again(
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
