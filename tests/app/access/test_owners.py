"""Laws of ownership: what a key makes is its own and its group's; production serves all, admin may do all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from darkroom.store.aliases import set_alias
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database, parse_url
from darkroom.store.generate_repository import get_generate_job
from darkroom.store.job_repository import Origin, get_job, list_jobs, submit_job
from darkroom.store.model_repository import PRODUCTION, ensure_model, find_model
from darkroom.store.roles import SERVICE, grant_roles
from darkroom.store.storage_use import bytes_of_key
from darkroom.store.sweep_repository import create_sweep
from darkroom.store.tables import Dataset
from tests.app.dataset_registry.test_routes import CLOTHES
from tests.app.keyed import Keyed, add_key, serving_keyed
from tests.app.served import store_weights, tiny_weights
from tests.app.test_refusals import assert_problem
from tests.app.training import add_dataset, checkpoint, claim, configuration, end
from tests.processes import wait_until

BOTH = ("train", "generate")


@dataclass
class Lab:
    """A service with an owner of things, a key of the same group, a stranger, and an admin."""

    served: Keyed
    database: Database
    owner: httpx.Client
    friend: httpx.Client
    stranger: httpx.Client
    admin: httpx.Client
    keys: dict[str, int]


@pytest.fixture(scope="module")
def lab(weights: Path, module_database_url: str) -> Iterator[Lab]:
    database = Database(module_database_url)
    made = [
        add_key(database, *BOTH, name="owner", group="lab"),
        add_key(database, *BOTH, name="friend", group="lab"),
        add_key(database, *BOTH, name="stranger"),
        add_key(database, "admin", name="admin"),
    ]
    add_dataset(database, "of nobody")
    tokens = [token for _, token in made]
    grant_roles(module_database_url, {SERVICE: "secret"})
    url = parse_url(module_database_url).set(username=SERVICE).render_as_string(hide_password=False)
    with serving_keyed(
        weights, tokens, database_url=url, event_streams=2
    ) as served:  # the role can do all that the API does
        wait_until(lambda: served.clients[3].get("/v1/models/tiny").status_code == 200, "registered")
        yield Lab(served, database, *served.clients, keys={row.name: row.id for row, _ in made})
    database.dispose()


def upload(client: httpx.Client, name: str, method: str = "POST", data: bytes = CLOTHES) -> httpx.Response:
    path = f"/v1/datasets/{name}?format=zip" if method == "PUT" else f"/v1/datasets?name={name}&format=zip"
    return client.request(method, path, content=data, headers={"Content-Type": "application/octet-stream"})


def own_model(lab: Lab, name: str, seed: int) -> str:
    """Give the owner a trained model without a version in production; return the version's digest."""
    with lab.database.session() as session:
        ensure_model(session, name, lab.keys["owner"])
    return store_weights(lab.database, tiny_weights("tiny", seed=seed), "trained", name)


def names(client: httpx.Client, resource: str) -> set[str]:
    return {one["name"] for one in client.get(f"/v1/{resource}").json()[resource]}


def assert_owned(answer: httpx.Response) -> None:
    assert assert_problem(answer, 403)["type"] == "/docs/errors#owned-by-another"


def calls_on_dataset(name: str) -> list[tuple[str, str, Any]]:
    job = {"recipe": configuration(), "model": "new", "dataset": name}
    return [
        ("GET", f"/v1/datasets/{name}", None),
        ("GET", f"/v1/datasets/{name}/contact-sheet", None),
        ("GET", f"/v1/datasets/{name}/pictures", None),
        ("GET", f"/v1/datasets/{name}/check", None),
        ("GET", f"/v1/datasets/of nobody/check?against={name}", None),
        ("GET", f"/v1/datasets?earlier_of={name}", None),
        ("GET", f"/v1/plan?dataset={name}&minutes=5", None),
        ("PATCH", f"/v1/datasets/{name}", {"keep": False}),
        ("PATCH", f"/v1/datasets/{name}", {"shared": True}),
        ("DELETE", f"/v1/datasets/{name}", None),
        ("POST", "/v1/train-jobs", job),
        ("POST", "/v1/train-jobs", {"minutes": 5, "dataset": name}),
        ("POST", "/v1/sweeps", job | {"name": "s", "seeds": [1]}),
    ]


def test_a_stranger_can_neither_see_nor_use_a_data_set(lab: Lab) -> None:
    assert upload(lab.owner, "secret").json()["shared"] is False
    for method, path, body in calls_on_dataset("secret"):
        assert_owned(lab.stranger.request(method, path, json=body))
    for method in ("POST", "PUT"):  # not even with the same content
        assert_owned(upload(lab.stranger, "secret", method))
    assert "secret" not in names(lab.stranger, "datasets")
    for client in (lab.owner, lab.friend, lab.admin):
        assert "secret" in names(client, "datasets")
        assert client.get("/v1/datasets/secret/contact-sheet").status_code == 200
        assert client.patch("/v1/datasets/secret", json={"keep": False}).status_code == 200
        assert upload(client, "secret").status_code == 200
    assert upload(lab.friend, "secret", "PUT").status_code == 200


def test_a_data_set_of_nobody_and_a_shared_one_are_for_all_keys(lab: Lab) -> None:
    assert lab.stranger.get("/v1/datasets/of nobody").json()["shared"] is True
    upload(lab.owner, "given")
    shared = lab.owner.patch("/v1/datasets/given", json={"shared": True})
    assert shared.json()["shared"] is True
    assert "given" in names(lab.stranger, "datasets")
    trail = lab.admin.get("/v1/audit-events", params={"action": "dataset.shared"}).json()["audit_events"]
    assert [event["actor"] for event in trail] == ["owner"]
    assert_problem(lab.owner.patch("/v1/datasets/given", json={"shared": False}), 422)


def test_an_earlier_version_keeps_its_owner_when_a_friend_replaces_it(lab: Lab) -> None:
    upload(lab.owner, "series")
    with lab.database.session() as session:
        session.scalars(select(Dataset).where(Dataset.name == "series")).one().digest = "sha256:" + "7" * 64
    assert upload(lab.friend, "series", "PUT").status_code == 201
    with lab.database.session() as session:
        rows = session.scalars(select(Dataset).where(Dataset.name.in_(["series", "series@1"]))).all()
        assert {row.api_key_id for row in rows} == {lab.keys["owner"]}


def test_a_stranger_can_neither_see_nor_use_a_model_that_is_not_in_production(lab: Lab) -> None:
    digest = own_model(lab, "mine", 31)
    job = {"recipe": configuration(), "dataset": "of nobody"}
    for method, path, body in [
        ("GET", "/v1/models/mine", None),
        ("GET", "/v1/models/mine/versions/1", None),
        ("GET", "/v1/models/mine/versions/1/weights", None),
        ("POST", "/v1/generate", {"class": 0, "model": "mine@1", "steps": 1}),
        ("POST", "/v1/generate", {"class": 0, "model": f"mine@{digest}", "steps": 1}),
        ("POST", "/v1/interpolate", {"class": 0, "seeds": [1, 2], "count": 2, "model": "mine@1", "steps": 1}),
        ("POST", "/v1/generate-jobs", {"class": 0, "n": 1, "model": "mine@1"}),
        ("POST", "/v1/train-jobs", job | {"model": "mine"}),
        ("POST", "/v1/train-jobs", job | {"model": "fork", "from_model": "mine@1"}),
    ]:
        assert_owned(lab.stranger.request(method, path, json=body))
    assert "mine" not in names(lab.stranger, "models")
    for client in (lab.owner, lab.friend, lab.admin):
        assert "mine" in names(client, "models")
        assert [one["version"] for one in client.get("/v1/models/mine").json()["newest"]] == [1]
        assert client.get("/v1/models/mine/versions/1/weights").status_code == 200
        assert client.post("/v1/generate", json={"class": 0, "model": "mine@1", "steps": 1}).status_code == 200


def test_the_version_in_production_draws_for_everybody_and_the_others_stay_the_owner_s(lab: Lab) -> None:
    own_model(lab, "served", 41)
    store_weights(lab.database, tiny_weights("tiny", seed=42), "trained", "served")
    with lab.database.session() as session:
        set_alias(session, COMMAND_LINE, "served", PRODUCTION, 1)

    def draws(reference: str) -> int:
        body = {"class": 0, "model": reference, "steps": 1}
        return lab.stranger.post("/v1/generate", json=body).status_code

    wait_until(lambda: draws("served") == 200, "it is in production")
    assert [draws("served@1"), draws("served@2")] == [200, 403]
    assert "served" in names(lab.stranger, "models")
    assert [one["version"] for one in lab.stranger.get("/v1/models/served").json()["newest"]] == [1]
    assert lab.stranger.get("/v1/models/served/versions/1").status_code == 200
    for path in ("/v1/models/served/versions/2", "/v1/models/served/versions/1/weights"):
        assert_owned(lab.stranger.get(path))
    fork = {"recipe": configuration(), "dataset": "of nobody", "model": "fork", "from_model": "served@1"}
    assert_owned(lab.stranger.post("/v1/train-jobs", json=fork))
    assert_problem(lab.owner.patch("/v1/models/served", json={"shared": True}), 403)
    assert lab.admin.patch("/v1/models/served", json={"shared": True}).status_code == 200
    assert lab.stranger.get("/v1/models/served/versions/2/weights").status_code == 200


def test_a_trained_model_belongs_to_its_job_s_key_and_the_name_is_taken_while_the_job_waits(lab: Lab) -> None:
    job = {"recipe": configuration(), "dataset": "of nobody", "model": "coming"}
    submitted = lab.owner.post("/v1/train-jobs", json=job)
    assert submitted.status_code == 202, submitted.text
    assert_owned(lab.stranger.post("/v1/train-jobs", json=job))
    friendly = lab.friend.post("/v1/train-jobs", json=job).json()["id"]
    assert lab.friend.post(f"/v1/train-jobs/{friendly}/cancel").status_code == 202
    lease = claim(lab.database)
    checkpoint(lab.database, lease, 100)
    with lab.database.session() as session:
        assert find_model(session, "coming").api_key_id == lab.keys["owner"]
    again = {"recipe": configuration(), "model": "other", "from_job": submitted.json()["id"]}
    assert_owned(lab.stranger.post("/v1/train-jobs", json=again))
    end(lab.database, lease)
    assert_owned(lab.stranger.post(f"/v1/train-jobs/{friendly}/resume"))


def calls_on_train_job(number: int) -> list[tuple[str, str]]:
    reading = ("", "/events", "/checkpoints", "/evaluations", "/samples", "/samples/100", "/metrics", "/logs")
    changing = [("POST", f"/{verb}") for verb in ("cancel", "resume", "retry")] + [("PATCH", ""), ("DELETE", "")]
    return [
        (method, f"/v1/train-jobs/{number}{part}") for method, part in [*(("GET", one) for one in reading), *changing]
    ]


def assert_others_alone(lab: Lab, resource: str, number: int, calls: list[tuple[str, str]]) -> None:
    """The stranger may do none of the calls and does not see the thing in the list; the others see and read it."""
    for method, path in calls:
        body = {"keep": False} if method == "PATCH" else None
        assert_owned(lab.stranger.request(method, path, json=body))
    for client, sees in ((lab.owner, True), (lab.friend, True), (lab.admin, True), (lab.stranger, False)):
        listed = client.get(f"/v1/{resource}", params={"limit": 200}).json()[
            resource.replace("-", "_").replace("train_", "")
        ]
        assert (number in {one["id"] for one in listed}) is sees
        assert client.get(f"/v1/{resource}/{number}").status_code == (200 if sees else 403)


def test_a_stranger_can_neither_see_nor_stop_a_train_job(lab: Lab) -> None:
    job = {"recipe": configuration(), "dataset": "of nobody", "model": "watched"}
    number = lab.owner.post("/v1/train-jobs", json=job).json()["id"]
    assert_others_alone(lab, "train-jobs", number, calls_on_train_job(number))
    assert lab.friend.patch(f"/v1/train-jobs/{number}", json={"keep": False}).status_code == 200
    assert lab.owner.post(f"/v1/train-jobs/{number}/cancel").status_code == 202
    with lab.friend.stream("GET", f"/v1/train-jobs/{number}/events") as events:
        assert "event: end" in events.read().decode()
    # an admin queues it again and does not take it from its owner; a friend's call makes it the friend's
    for client, maker in ((lab.admin, "owner"), (lab.friend, "friend")):
        assert client.post(f"/v1/train-jobs/{number}/resume").status_code == 202
        with lab.database.session() as session:
            assert get_job(session, number).api_key_id == lab.keys[maker]
        assert lab.owner.post(f"/v1/train-jobs/{number}/cancel").status_code == 202
    assert_owned(lab.stranger.delete(f"/v1/train-jobs/{number}"))


def test_a_key_holds_at_most_so_many_event_streams(lab: Lab) -> None:
    job = {"recipe": configuration(), "dataset": "of nobody", "model": "streamed"}
    path = f"/v1/train-jobs/{lab.owner.post('/v1/train-jobs', json=job).json()['id']}/events"

    def status(client: httpx.Client) -> int:
        with client.stream("GET", path) as answer:
            return answer.status_code

    with lab.owner.stream("GET", path), lab.owner.stream("GET", path):
        problem = assert_problem(lab.owner.get(path), 429)
        assert problem["type"] == "/docs/errors#open-event-streams-limit"
        drawing = {"class": 0, "steps": 1, "stream": True}
        assert lab.owner.post("/v1/generate", json=drawing).status_code == 429
        assert lab.owner.post("/v1/generate", json=drawing | {"stream": False}).status_code == 200
        assert status(lab.friend) == 200
    wait_until(lambda: status(lab.owner) == 200, "the ended streams make room")


def test_a_stranger_can_neither_see_nor_stop_a_sweep(lab: Lab) -> None:
    body = {"recipe": configuration(), "dataset": "of nobody", "model": "swept", "name": "s", "seeds": [1, 2]}
    number = lab.owner.post("/v1/sweeps", json=body).json()["id"]
    path = f"/v1/sweeps/{number}"
    assert_others_alone(lab, "sweeps", number, [("GET", path), ("POST", f"{path}/cancel"), ("DELETE", path)])
    assert lab.friend.post(f"{path}/cancel").json()["jobs"] == {"cancelled": 2}
    assert lab.owner.delete(path, params={"force": True}).status_code == 204


def test_a_stranger_can_neither_see_nor_stop_a_generate_job(lab: Lab) -> None:
    number = lab.owner.post("/v1/generate-jobs", json={"class": 0, "n": 2}).json()["id"]
    path = f"/v1/generate-jobs/{number}"
    calls = [("GET", path), ("GET", f"{path}/result"), ("DELETE", path)]
    calls += [("POST", f"{path}/{verb}") for verb in ("cancel", "retry")]
    assert_others_alone(lab, "generate-jobs", number, calls)
    assert lab.friend.post(f"{path}/cancel").status_code == 202
    assert lab.friend.post(f"{path}/retry").status_code == 202  # the shard is the friend's now, and the images are not
    with lab.database.session() as session:
        assert get_generate_job(session, number)[0].api_key_id == lab.keys["owner"]
    assert lab.owner.post(f"{path}/cancel").status_code == 202
    assert lab.owner.delete(path).status_code == 204


def test_a_stranger_learns_neither_names_nor_sums_of_what_takes_space(lab: Lab) -> None:
    upload(lab.owner, "hidden")
    own_model(lab, "hidden-model", 61)

    def named(client: httpx.Client) -> set[str]:
        return {one["name"] for one in client.get("/v1/storage", params={"limit": 1000}).json()["largest"]}

    for client in (lab.owner, lab.friend, lab.admin):
        assert {"hidden", "hidden-model", "of nobody"} <= named(client)
    assert named(lab.stranger).isdisjoint({"hidden", "hidden-model"})
    assert "of nobody" in named(lab.stranger)
    totals = [client.get("/v1/storage").json()["bytes"] for client in (lab.stranger, lab.admin)]
    assert totals[0]["dataset"] < totals[1]["dataset"]
    assert totals[0]["model"] < totals[1]["model"]


def test_records_without_a_key_belong_to_nobody(lab: Lab) -> None:
    with lab.database.session() as session:
        submit_job(
            session, kind="train", model_name="free", configuration={}, total_images=1, origin=Origin(None)
        ).max_attempts = 1
    store_weights(lab.database, tiny_weights("tiny", seed=51), "trained", "old")
    assert "old" in names(lab.stranger, "models")
    assert lab.stranger.get("/v1/models/old/versions/1/weights").status_code == 200
    with lab.database.session() as session:
        number = create_sweep(session, "old", {}, []).id
        waiting = list_jobs(session, kind="train", model_name="free")[0].id
    for path in (f"/v1/sweeps/{number}", f"/v1/train-jobs/{waiting}/events?after=1"):
        with lab.stranger.stream("GET", path) as answer:
            assert answer.status_code == 200
    job = {"recipe": configuration(), "dataset": "of nobody", "model": "free"}
    assert lab.stranger.post("/v1/train-jobs", json=job).status_code == 202


def test_each_key_has_idempotency_keys_of_its_own(lab: Lab) -> None:
    headers = {"Idempotency-Key": "1"}
    body = {"class": 0, "n": 2}
    first = [client.post("/v1/generate-jobs", json=body, headers=headers) for client in (lab.owner, lab.owner)]
    other = lab.stranger.post("/v1/generate-jobs", json=body | {"n": 3}, headers=headers)
    assert [answer.status_code for answer in (*first, other)] == [202] * 3
    assert first[0].json()["id"] == first[1].json()["id"] != other.json()["id"]
    reused = assert_problem(lab.owner.post("/v1/generate-jobs", json=body | {"n": 4}, headers=headers), 422)
    assert "the idempotency key '1' was used" in reused["detail"]
    assert [upload(client, f"of-{name}").status_code for name, client in (("a", lab.owner), ("b", lab.stranger))] == [
        201,
        201,
    ]


def test_a_key_leaves_its_group_and_its_things_go_with_it(lab: Lab) -> None:
    upload(lab.friend, "moving")
    assert lab.owner.get("/v1/datasets/moving").status_code == 200
    path = f"/v1/keys/{lab.keys['friend']}"
    assert lab.admin.patch(path, json={"group": None}).json()["group"] is None
    try:
        assert_owned(lab.owner.get("/v1/datasets/moving"))
        assert lab.friend.get("/v1/datasets/moving").status_code == 200
    finally:
        assert lab.admin.patch(path, json={"group": "lab"}).json()["group"] == "lab"
    assert lab.owner.get("/v1/datasets/moving").status_code == 200


def test_a_quota_counts_the_network_rows_of_drawn_images(lab: Lab) -> None:
    _, token = add_key(lab.database, *BOTH, name="drawer", network_rows_per_day=100)
    with lab.served.client(token) as client:

        def draws(**body: Any) -> httpx.Response:
            return client.post("/v1/generate", json={"class": 0, "guidance": 1.0} | body)

        few = draws(n=2, steps=10)  # 20 rows
        assert few.status_code == 200
        assert '"network-rows";r=80;t=' in few.headers["ratelimit"]
        assert '"network-rows";r=40;t=' in draws(n=2, steps=10, guidance=2.0).headers["ratelimit"]
        refused = draws(n=3, steps=20)
        assert assert_problem(refused, 429)["type"] == "/docs/errors#network-rows-limit"
        assert int(refused.headers["retry-after"]) > 0
        job = {"class": 0, "n": 1, "steps": 41, "guidance": 1.0}
        assert_problem(client.post("/v1/generate-jobs", json=job), 429)
        assert '"images";r=99996;t=' in refused.headers["ratelimit"]  # a refusal costs nothing
        assert client.post("/v1/generate-jobs", json=job | {"steps": 40}).status_code == 202
        assert_problem(draws(n=1, steps=1), 429)


def test_a_score_costs_the_network_rows_that_it_takes(lab: Lab) -> None:
    _, token = add_key(lab.database, *BOTH, name="chooser", network_rows_per_day=50)
    with lab.served.client(token) as client:
        body = {"class": 0, "guidance": 1.0, "steps": 3}
        scored = client.post("/v1/generate", json=body | {"best_of": 2})
        assert '"network-rows";r=12;t=' in scored.headers["ratelimit"]  # 2 x 3 steps, and 2 x 16 for the scores
        refused = client.post("/v1/generate", json=body | {"best_of": 1})
        assert assert_problem(refused, 429)["type"] == "/docs/errors#network-rows-limit"
        assert client.post("/v1/generate", json=body | {"n": 4}).status_code == 200


@pytest.mark.parametrize("name", ["priority", "devices"])
def test_priority_and_devices_need_a_right(lab: Lab, name: str) -> None:
    job = {"recipe": configuration(), "dataset": "of nobody", "model": f"with-{name}"}
    asked = {"priority": {"priority": 3}, "devices": {"overrides": {"training.devices": 3}}}[name]
    _, token = add_key(lab.database, "train", name=name, **{name: 3})
    calls: list[tuple[str, Any]] = [("/v1/train-jobs", job), ("/v1/sweeps", job | {"name": "s", "seeds": [1]})]
    if name == "priority":
        calls.append(("/v1/generate-jobs", {"class": 0, "n": 1}))
    with lab.served.client(token) as allowed:
        for path, body in calls:
            problem = assert_problem(lab.owner.post(path, json=body | asked), 403)
            assert problem["type"] == f"/docs/errors#{name}-limit"
            assert f"darkroom keys change KEY --{name} 3" in problem["detail"]
            assert allowed.post(path, json=body | asked).status_code == 202
        above = {"priority": {"priority": 4}, "devices": {"overrides": {"training.devices": 4}}}[name]
        assert_problem(allowed.post("/v1/train-jobs", json=job | above), 403)
        assert lab.admin.post("/v1/train-jobs", json=job | above).status_code == 202


def test_a_key_that_stores_its_bytes_adds_nothing_until_it_deletes_some(lab: Lab) -> None:
    row, token = add_key(lab.database, *BOTH, name="full", stored_bytes=1_000_000)
    with lab.served.client(token) as client:
        assert upload(client, "first").status_code == 201
        with lab.database.session() as session:
            stored = bytes_of_key(session, row.id)
            assert stored > 0
        limit = {"stored_bytes": stored + 10}
        assert lab.admin.patch(f"/v1/keys/{row.id}", json=limit).status_code == 200
        problem = assert_problem(upload(client, "second"), 403)
        assert problem["type"] == "/docs/errors#bytes-limit"
        job = {"recipe": configuration(), "dataset": "of nobody", "model": "full"}
        assert client.post("/v1/train-jobs", json=job).status_code == 202  # it fits until the limit is reached
        assert lab.admin.patch(f"/v1/keys/{row.id}", json={"stored_bytes": stored}).status_code == 200
        assert_problem(client.post("/v1/train-jobs", json=job), 403)
        assert_problem(client.post("/v1/generate-jobs", json={"class": 0, "n": 1}), 403)
        assert client.delete("/v1/datasets/first").status_code == 204
        assert client.post("/v1/generate-jobs", json={"class": 0, "n": 1}).status_code == 202
