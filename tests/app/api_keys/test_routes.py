"""Laws of /keys, of limits and of the audit trail, on the real service."""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from darkroom.app.embedded.redis import PrivateRedis
from darkroom.model.config import Recipe
from darkroom.store.audit_repository import list_audit_events
from darkroom.store.database import Database
from darkroom.store.job_repository import Origin, submit_job
from darkroom.store.promotion import promote_best
from tests.app.dataset_registry.test_routes import CLOTHES
from tests.app.keyed import Keyed, add_key, serving_keyed
from tests.app.served import Service, serving, store_weights, tiny_weights, weights_folder
from tests.app.test_refusals import assert_problem
from tests.app.training import add_dataset, broken, checkpoint, claim, configuration, end, holding
from tests.processes import wait_until

_FIRST_IDS = count(1000, 1000)
AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def opened(weights: Path, database_url: str) -> Iterator[Service]:
    """A service without keys."""
    with serving(weights, default_model="tiny", database_url=database_url) as service:
        yield service


@pytest.fixture(scope="module")
def keyless(weights: Path, module_database_url: str) -> Iterator[Service]:
    """As `opened`, for tests that create no key."""
    with serving(weights, default_model="tiny", database_url=module_database_url) as service:
        yield service


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_key_is_created_used_and_revoked(opened: Service, database: Database) -> None:
    client = opened.client
    assert client.get("/v1/keys").json() == {"keys": [], "next_before": None}
    made = client.post("/v1/keys", json={"name": "Größe", "scopes": ["admin", "admin"], "images_per_day": 5})
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    token = key.pop("token")
    assert key.pop("notice").startswith("From now on every request needs a key, from this machine too")
    assert (key["name"], key["scopes"], key["images_per_day"], key["requests_per_minute"]) == (
        "Größe",
        ["admin"],
        5,
        None,
    )
    with database.session() as session:
        stored = session.execute(text("SELECT * FROM api_keys")).mappings().all()
    assert token not in str(stored)
    assert token.split("_", 2)[2] not in str(stored)

    assert_problem(client.get("/v1/keys"), 401)  # at once, in the process that created it
    listed = client.get("/v1/keys", headers=bearer(token))
    assert listed.json()["keys"] == [key | {"last_used_at": listed.json()["keys"][0]["last_used_at"]}]
    assert token not in listed.text

    for _ in range(2):  # the second revocation changes nothing
        revoked = client.post(f"/v1/keys/{key['id']}/revoke", headers=bearer(token))
        if revoked.status_code == 401:
            break
        assert revoked.json()["revoked_at"] is not None
    assert_problem(client.get("/v1/keys", headers=bearer(token)), 401)
    for path in ("/v1/keys", "/v1/audit-events"):  # the service stays closed after its last key is revoked
        assert "or had some" in assert_problem(client.get(path), 401)["detail"]
    with database.session() as session:
        events = [event for event in list_audit_events(session) if event.actor != "shipped weights"]
    told = [(event.actor, event.action, event.target, event.api_key_id) for event in events]
    where = f"keys/{key['id']}"
    assert told == [("Größe", "key.revoked", where, key["id"]), ("loopback", "key.created", where, None)]
    assert [event.client_address for event in events] == ["127.0.0.1"] * 2
    assert events[1].request_id == made.headers["x-request-id"]
    assert token not in str([event.data for event in events])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"scopes": ["train"]}, "/name"),
        ({"name": "a", "scopes": []}, "/scopes"),
        ({"name": "a", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "a\n", "scopes": ["train"]}, "/name"),
        ({"name": "", "scopes": ["train"]}, "/name"),
        ({"name": "a", "scopes": ["train"], "expires_in_days": 0.0}, "/expires_in_days"),
        ({"name": "a", "scopes": ["train"], "requests_per_minute": 0}, "/requests_per_minute"),
        ({"name": "a", "scopes": ["train"], "images_per_day": 2**31}, "/images_per_day"),
        ({"name": "a", "scopes": ["train"], "token": "mine"}, "/token"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_by_name(keyless: Service, body: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(keyless.client.post("/v1/keys", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert keyless.client.get("/v1/keys").json()["keys"] == []


def test_keys_are_paged_and_unknown_ones_not_found(opened: Service, database: Database) -> None:
    _, token = add_key(database, "admin", name="0")
    for number in range(1, 4):
        add_key(database, "generate", name=str(number))
    client, headers = opened.client, bearer(token)
    wait_until(lambda: client.get("/v1/keys").status_code == 401, "the keys are known")
    first = client.get("/v1/keys", params={"limit": 3}, headers=headers).json()
    rest = client.get("/v1/keys", params={"limit": 3, "before": first["next_before"]}, headers=headers).json()
    assert [key["name"] for key in first["keys"] + rest["keys"]] == ["3", "2", "1", "0"]
    assert rest["next_before"] is None
    assert_problem(client.post("/v1/keys/99/revoke", headers=headers), 404)
    assert_problem(client.post("/v1/keys/0/revoke", headers=headers), 422)


def test_limits_are_changed_one_by_one(opened: Service, database: Database) -> None:
    _, token = add_key(database, "admin", name="ops")
    row, lab = add_key(database, "generate", images_per_day=2, requests_per_minute=90)
    client, headers = opened.client, bearer(token)
    wait_until(lambda: client.get("/v1/keys").status_code == 401, "the keys are known")
    path = f"/v1/keys/{row.id}"

    def images(n: int) -> int:
        return client.post("/v1/generate", json={"class": 0, "n": n, "steps": 1}, headers=bearer(lab)).status_code

    assert [images(2), images(1)] == [200, 429]
    changed = client.patch(path, json={"images_per_day": 3, "requests_per_minute": None}, headers=headers)
    assert changed.status_code == 200, changed.text
    key = changed.json()
    assert (key["images_per_day"], key["requests_per_minute"], key["unfinished_jobs"]) == (3, None, None)
    assert [images(1), images(1)] == [200, 429]  # the new limit works at once, and the use so far still counts
    assert client.patch(path, json={}, headers=headers).json()["images_per_day"] == 3
    assert client.patch(path, json={"images_per_day": 3}, headers=headers).status_code == 200
    events = client.get("/v1/audit-events", params={"action": "key.changed"}, headers=headers).json()["audit_events"]
    assert [(event["actor"], event["target"]) for event in events] == [("ops", f"keys/{row.id}")]
    assert events[0]["data"]["images_per_day"] == {"from": 2, "to": 3}

    for body, pointer in (({"images_per_day": -1}, "/images_per_day"), ({"scopes": ["admin"]}, "/scopes")):
        problem = assert_problem(client.patch(path, json=body, headers=headers), 422)
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert_problem(client.patch("/v1/keys/999", json={}, headers=headers), 404)
    assert_problem(client.patch(path, json={"images_per_day": 9}, headers=bearer(lab)), 403)


def test_an_address_with_many_invalid_tokens_is_refused_but_its_valid_keys_are_not(
    weights: Path, database: Database, database_url: str
) -> None:
    _, token = add_key(database, "generate")
    _, late = add_key(database, "generate", name="late")
    with serving_keyed(weights, [token], database_url=database_url, failed_keys_per_minute=3) as served:
        good = served.clients[0]
        assert good.get("/v1/models").status_code == 200

        def attempt(guess: str) -> httpx.Response:
            return served.bare.get("/v1/models", headers=bearer(guess))

        others = [end for end in "0123456789" if end != token[-1]]  # without the valid key's own last character
        tries = [attempt(f"{token[:-1]}{end}").status_code for end in others[:8]]
        assert tries[:3] == [401] * 3
        assert 429 in tries[3:]  # a new minute may have begun once in between
        refused = next(answer for answer in map(attempt, [f"{token}x"] * 5) if answer.status_code == 429)
        assert assert_problem(refused, 429)["type"] == "/docs/errors#attempts-limit"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert good.get("/v1/models").status_code == 200
        if attempt(late).status_code != 429:  # only in a new minute may an unknown token be looked up
            assert attempt(late).status_code == 200
        assert re.search(r'access_refusals_total\{reason="attempts_limit"\} [1-9]', served.bare.get("/metrics").text)


def test_a_new_key_says_that_it_closes_the_service_and_what_it_cannot_do(opened: Service, database: Database) -> None:
    made = opened.client.post("/v1/keys", json={"name": "a", "scopes": ["train"]}).json()
    assert made["notice"].endswith("run `darkroom keys create --scopes admin` on the host.")
    _, token = add_key(database, "admin")
    body = {"name": "b", "scopes": ["train"]}
    assert opened.client.post("/v1/keys", json=body, headers=bearer(token)).json()["notice"] is None


@pytest.fixture(params=["redis", "alone", "redis away"])
def limited(
    request: pytest.FixtureRequest, weights: Path, database: Database, database_url: str, redis_server: PrivateRedis
) -> Iterator[Keyed]:
    """A service and a key with small limits: with Redis, without it, and with a Redis that cannot be reached."""
    url = {"redis": redis_server.url, "alone": None, "redis away": AWAY}[request.param]
    with database.session() as session:  # ids restart in each database, but the databases share one Redis
        session.execute(
            text(f"ALTER TABLE api_keys ALTER COLUMN id RESTART WITH {abs(hash(database_url)) % 10**9 + 2}")
        )
    _, token = add_key(database, "generate", "train", images_per_day=6, unfinished_jobs=2)
    _, brief = add_key(database, "generate", requests_per_minute=2)
    with serving_keyed(
        weights, [token, brief], database_url=database_url, redis_url=url, queue_rows=8, request_rows=32
    ) as served:
        yield served


def test_images_and_requests_are_limited(limited: Keyed) -> None:
    client, brief = limited.clients

    def images(n: int, **more: Any) -> httpx.Response:
        return client.post("/v1/generate", json={"class": 0, "n": n, "steps": 1} | more)

    answer = images(4)
    assert answer.status_code == 200
    assert '"images";q=6;w=86400' in answer.headers["ratelimit-policy"]
    assert '"images";r=2;t=' in answer.headers["ratelimit"]
    assert '"requests";r=599;t=' in answer.headers["ratelimit"]
    refused = images(3)
    assert assert_problem(refused, 429)["type"] == "/docs/errors#images-limit"
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert '"images";r=2;t=' in refused.headers["ratelimit"]
    wait_until(lambda: "tiny" in client.get("/v1/models").text, "registered")
    never = client.post("/v1/generate-jobs", json={"class": 0, "n": 7})
    problem = assert_problem(never, 403)  # waiting would not help
    assert problem["type"] == "/docs/errors#above-limit"
    assert "may use 6 images per day, and this request needs 7" in problem["detail"]
    assert "retry-after" not in never.headers
    assert_problem(images(9), 422)  # exceeds both the queue and the key's limit
    assert_problem(images(1, steps=500, deadline_seconds=1e-6), 503)  # draws nothing, so counts nothing
    assert_problem(client.post("/v1/interpolate", json={"class": 0, "seeds": [1, 2], "count": 3, "steps": 1}), 429)
    assert_problem(images(1, best_of=3), 429)  # all drawn images count, not only the returned one
    assert '"images";r=0;t=' in images(2).headers["ratelimit"]
    assert_problem(client.post("/v1/generate-jobs", json={"class": 0, "n": 1}), 429)
    assert client.get("/v1/models").status_code == 200

    statuses = [brief.get("/v1/models").status_code for _ in range(2)]
    over = brief.get("/v1/models")
    if over.status_code != 429:  # a new minute had begun
        over = [brief.get("/v1/models") for _ in range(2)][-1]
    assert statuses == [200, 200]
    assert assert_problem(over, 429)["type"] == "/docs/errors#requests-limit"
    assert 1 <= int(over.headers["retry-after"]) <= 60
    assert '"requests";q=2;w=60' in over.headers["ratelimit-policy"]
    assert '"requests";r=0;t=' in over.headers["ratelimit"]
    text = limited.bare.get("/metrics").text
    assert re.search(r'darkroom_access_refusals_total\{reason="images_limit"\} [1-9]', text)
    assert re.search(r'darkroom_access_refusals_total\{reason="requests_limit"\} [1-9]', text)
    if limited.redis_url == AWAY:
        assert limited.service.gauge("darkroom_limits_counted_without_redis_total") > 0


def test_jobs_are_limited_until_they_end(limited: Keyed, database: Database) -> None:
    client = limited.clients[0]
    add_dataset(database)
    job = {"recipe": configuration(), "dataset": "shapes", "model": "mine"}

    def submit(**headers: str) -> httpx.Response:
        return client.post("/v1/train-jobs", json=job, headers=headers)

    assert submit(**{"Idempotency-Key": "one"}).status_code == 202
    wait_until(lambda: "tiny" in client.get("/v1/models").text, "registered")
    assert client.post("/v1/generate-jobs", json={"class": 0, "n": 2, "shard_images": 1}).status_code == 202
    problem = assert_problem(submit(), 429)
    assert problem["type"] == "/docs/errors#jobs-limit"
    assert submit(**{"Idempotency-Key": "one"}).status_code == 202  # creates nothing
    sweep = job | {"name": "s", "seeds": [1]}
    assert_problem(client.post("/v1/sweeps", json=sweep), 429)
    assert client.post("/v1/train-jobs/1/cancel").status_code == 202
    assert_problem(client.post("/v1/sweeps", json=sweep | {"seeds": [1, 2]}), 429)
    problem = assert_problem(client.post("/v1/sweeps", json=sweep | {"seeds": [1, 2, 3]}), 403)
    assert "may have 2 unfinished jobs, and this request needs 3" in problem["detail"]
    assert client.post("/v1/sweeps", json=sweep).status_code == 202
    assert_problem(client.post("/v1/train-jobs/1/resume"), 429)


def test_a_repeated_or_refused_job_costs_no_images(limited: Keyed) -> None:
    client = limited.clients[0]
    wait_until(lambda: "tiny" in client.get("/v1/models").text, "registered")
    body = {"class": 0, "n": 3}
    for _ in range(3):
        answer = client.post("/v1/generate-jobs", json=body, headers={"Idempotency-Key": "one"})
        assert answer.status_code == 202
    other = client.post("/v1/generate-jobs", json=body | {"n": 2}, headers={"Idempotency-Key": "one"})
    assert_problem(other, 422)
    assert client.post("/v1/generate-jobs", json=body).status_code == 202
    assert_problem(client.post("/v1/generate-jobs", json=body | {"n": 1}), 429)


def test_the_audit_trail_names_who_made_each_change(tmp_path: Path, database: Database, database_url: str) -> None:
    key, token = add_key(database, "admin", name="ops")
    add_dataset(database)
    with serving_keyed(weights_folder(tmp_path / "weights"), [token], database_url=database_url) as served:
        (client,) = served.clients
        client.headers["X-Request-ID"] = "mine-1"
        wait_until(lambda: client.get("/v1/models/tiny").status_code == 200, "registered")
        store_weights(database, tiny_weights("tiny", seed=5))
        job = {"recipe": configuration(), "dataset": "shapes", "model": "mine"}
        calls: list[tuple[str, str, Any]] = [
            ("POST", "/v1/datasets?name=clothes&format=zip", CLOTHES),
            ("POST", "/v1/datasets?name=clothes&format=zip", CLOTHES),  # exists already: no change
            ("POST", "/v1/train-jobs", job),
            ("POST", "/v1/train-jobs/1/cancel", None),
            ("POST", "/v1/train-jobs/1/resume", None),
            ("POST", "/v1/train-jobs/1/resume", None),  # 409: no change
        ]
        for method, path, body in calls:
            _send(client, method, path, body)
        end(database, claim(database), broken)
        calls = [
            ("POST", "/v1/train-jobs/1/retry", None),
            ("POST", "/v1/sweeps", job | {"name": "s", "seeds": [1, 2]}),
            ("POST", "/v1/sweeps/1/cancel", None),
            ("POST", "/v1/generate-jobs", {"class": 0, "n": 2}),
            ("POST", "/v1/generate-jobs/1/cancel", None),
            ("POST", "/v1/generate-jobs/1/retry", None),
            ("PUT", "/v1/models/tiny/alias/production", {"version": 2}),
            ("PUT", "/v1/models/tiny/alias/canary", {"version": 1}),
            ("DELETE", "/v1/models/tiny/alias/canary", None),
            ("PUT", "/v1/models/tiny/alias/canary", {"version": 99}),  # 422: no change
        ]
        for method, path, body in calls:
            _send(client, method, path, body)
        page = client.get("/v1/audit-events", params={"limit": 200}).json()
        told = [(event["action"], event["target"]) for event in reversed(page["audit_events"])]
        assert told == [
            ("key.created", f"keys/{key.id}"),
            ("alias.moved", "models/tiny/alias/production"),  # the shipped weights
            ("alias.moved", "models/tiny/alias/production"),  # newer shipped weights
            ("dataset.registered", "datasets/clothes"),
            ("train-job.submitted", "train-jobs/1"),
            ("train-job.cancelled", "train-jobs/1"),
            ("train-job.resumed", "train-jobs/1"),
            ("train-job.retried", "train-jobs/1"),
            ("sweep.created", "sweeps/1"),
            ("sweep.cancelled", "sweeps/1"),
            ("generate-job.submitted", "generate-jobs/1"),
            ("generate-job.cancelled", "generate-jobs/1"),
            ("generate-job.retried", "generate-jobs/1"),
            ("alias.moved", "models/tiny/alias/production"),
            ("alias.moved", "models/tiny/alias/canary"),
            ("alias.deleted", "models/tiny/alias/canary"),
        ]
        who = [(event["actor"], event["api_key_id"], event["request_id"]) for event in page["audit_events"][:-1]]
        assert who[-2:] == 2 * [("shipped weights", None, None)]
        assert set(who[:-2]) == {("ops", key.id, "mine-1")}
        assert page["audit_events"][2]["data"]["version"] == 2

        moved = client.get("/v1/audit-events", params={"action": "alias.moved", "limit": 1}).json()
        assert [event["target"] for event in moved["audit_events"]] == ["models/tiny/alias/canary"]
        older = client.get("/v1/audit-events", params={"action": "alias.moved", "before": moved["next_before"]}).json()
        assert [event["target"] for event in older["audit_events"]] == 3 * ["models/tiny/alias/production"]
        jobs = client.get("/v1/audit-events", params={"target": "train-jobs/1"}).json()["audit_events"]
        assert len(jobs) == 4
        assert_problem(client.get("/v1/audit-events?before=0"), 422)


def _send(client: httpx.Client, method: str, path: str, body: Any) -> None:
    content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    answer = client.request(method, path, **content)
    assert answer.status_code < 500, answer.text


def test_the_audit_trail_names_the_job_that_moved_an_alias(database: Database) -> None:
    key, _ = add_key(database, "train")
    recipe = Recipe.model_validate(configuration() | {"name": "mine", "dataset": {"format": "digits"}})
    with database.session() as session:
        submit_job(
            session,
            kind="train",
            model_name="mine",
            configuration={"recipe": recipe.model_dump(mode="json"), "keep_last": 1},
            total_images=100,
            promote="best",
            origin=Origin(key.id),
        )
    lease = claim(database)
    checkpoint(database, lease, 100, {"fid-x": 1.0})
    with holding(database, lease) as (session, row):
        promote_best(session, row)
    with database.session() as session:
        event = list_audit_events(session)[0]
    assert (event.action, event.target) == ("alias.moved", "models/mine/alias/production")
    assert (event.actor, event.api_key_id, event.data["version"]) == ("train job 1", key.id, 1)
