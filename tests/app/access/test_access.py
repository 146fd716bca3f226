"""Laws of access: each call answers as OpenAPI states, without a key, with a wrong key and with a right one."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest

from darkroom.app.access.beyond_loopback import KeysNeeded
from darkroom.app.access.scopes import RESOURCES
from darkroom.app.main import create_app
from darkroom.app.settings import REPOSITORY, Settings
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database
from darkroom.store.key_repository import list_keys, revoke_key
from darkroom.store.tables import Scope
from tests.app.keyed import Keyed, add_key, serving_keyed
from tests.app.served import Service, serving
from tests.app.test_refusals import assert_problem

SCOPES: tuple[Scope, ...] = ("generate", "train", "metrics", "admin")
WRITES = {"post", "put", "delete", "patch"}


@pytest.fixture(scope="module")
def keyed(weights: Path, module_database_url: str) -> Iterator[tuple[Keyed, dict[str, httpx.Client]]]:
    """A service with one key for each scope, and one client for each key."""
    database = Database(module_database_url)
    tokens = [add_key(database, scope, name=scope)[1] for scope in SCOPES]
    database.dispose()
    with serving_keyed(weights, tokens, database_url=module_database_url) as served:
        yield served, dict(zip(SCOPES, served.clients, strict=True))


def _operations(service: Service) -> list[tuple[str, str, dict[str, Any]]]:
    document = service.client.get("/openapi.json").json()
    return [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def _call(client: httpx.Client, method: str, path: str) -> int:
    """Make a call that changes nothing, because it names unknown things and has no body. Returns the status."""
    path = re.sub(r"\{\w*id\}", "999", path).replace("{name}", "none").replace("{alias}", "no")
    answer = client.request(method, path)
    if answer.status_code in (401, 403):
        problem = assert_problem(answer, answer.status_code)
        assert problem["status"] == 401 or problem["type"] == "/docs/errors#scope-missing", problem
        assert answer.headers["www-authenticate"].startswith('Bearer realm="darkroom"')
    return answer.status_code


def test_every_call_answers_as_it_states(keyed: tuple[Keyed, dict[str, httpx.Client]]) -> None:
    served, clients = keyed
    operations = _operations(served.service)
    assert len(operations) > 30
    for method, path, operation in operations:
        stated = {scope for need in operation["security"] for scope in need["key"]}
        if not stated:
            assert method == "get", path
            assert _call(served.bare, method, path) == 200, path
            continue
        assert "admin" in stated, path
        assert {"401", "403", "429"} <= set(operation["responses"]), path
        if path != "/metrics":  # /metrics is open to this machine
            assert _call(served.bare, method, path) == 401, (method, path)
        for scope, client in clients.items():
            refused = _call(client, method, path) == 403
            assert refused is (scope not in stated), (method, path, scope)


def test_an_invalid_token_is_refused_by_every_call_that_needs_a_key(
    keyed: tuple[Keyed, dict[str, httpx.Client]],
) -> None:
    served, _ = keyed
    good = served.clients[0].headers["authorization"]
    for header in (good[:-1], f"{good}x", "Bearer", good.replace("Bearer", "Basic"), "x", "Bearer drk_"):
        answer = served.bare.get("/v1/models", headers={"Authorization": header})
        assert assert_problem(answer, 401)["type"] == "/docs/errors#key-refused"
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert served.bare.get("/v1/models", headers={"Authorization": good.replace("Bearer", "bearer")}).status_code == 200
    assert served.bare.get("/healthz", headers={"Authorization": "x"}).status_code == 200


def test_a_refusal_comes_before_the_body_is_read(keyed: tuple[Keyed, dict[str, httpx.Client]]) -> None:
    served, clients = keyed
    headers = {"Content-Type": "application/json"}
    for path in ("/generate", "/v1/train-jobs", "/v1/datasets?name=x&format=zip"):
        assert served.bare.post(path, content="{", headers=headers).status_code == 401
        assert clients["metrics"].post(path, content="{", headers=headers).status_code == 403


def test_an_unknown_path_needs_admin(keyed: tuple[Keyed, dict[str, httpx.Client]]) -> None:
    served, clients = keyed
    assert_problem(served.bare.get("/v1/nothing"), 401)
    assert_problem(clients["train"].get("/v1/nothing"), 403)
    assert_problem(clients["admin"].get("/v1/nothing"), 404)


def test_the_table_in_the_docs_is_the_enforced_one() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `/([a-z-]+)` \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    told = {name: (reading.strip(), changing.strip()) for name, reading, changing in rows}
    assert told == {
        name: (" or ".join(needs.reading), " or ".join(needs.changing)) for name, needs in RESOURCES.items()
    }


def test_every_entry_of_the_table_has_a_call(service: Service) -> None:
    paths = {path.removeprefix("/v1").split("/")[1] for _, path, _ in _operations(service)}
    assert {name for name in RESOURCES if name not in paths} <= {"recipes"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "darkroom.example"}, 401),
        ({"X-Forwarded-For": "10.0.0.2"}, 401),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_without_keys_only_this_machine_is_admitted(service: Service, headers: dict[str, str], status: int) -> None:
    body = {"class": 0, "steps": 1}
    answer = service.client.post("/generate", json=body, headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert_problem(answer, status)
    assert "ratelimit" not in answer.headers
    assert service.client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"host": "darkroom.example"}, {"require_keys": True}])
def test_a_service_that_others_reach_needs_keys_from_this_machine_too(
    weights: Path, database: Database, database_url: str, settings: dict[str, Any]
) -> None:
    _, token = add_key(database, "generate")
    with serving_keyed(weights, [token], database_url=database_url, **settings) as served:
        (client,) = served.clients
        for path in ("/v1/models", "/metrics"):
            assert_problem(served.bare.get(path), 401)
        assert client.get("/v1/models").status_code == 200
        with database.session() as session:
            revoke_key(session, COMMAND_LINE, list_keys(session)[0].id)
        assert_problem(served.bare.get("/metrics"), 401)  # without any key the service is closed, not open


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "darkroom.example", ""])
async def test_a_service_that_others_reach_does_not_start_without_keys(
    weights: Path, database: Database, database_url: str, host: str
) -> None:
    for more in ({"database_url": database_url}, {"database_url": None}):
        application = create_app(Settings(weights_folder=weights, device="cpu", host=host, **more))
        with pytest.raises(KeysNeeded, match="darkroom keys create"):
            async with application.router.lifespan_context(application):
                pass


def test_before_the_database_was_ever_reached_keys_are_refused_and_little_is_open(weights: Path) -> None:
    with serving(
        weights, default_model="tiny", database_url="postgresql://nobody@/nothing?host=/nonexistent"
    ) as service:
        assert service.images(seed=1).shape == (1, 8, 8, 1)
        token = "drk_" + "a" * 10 + "_" + "b" * 43
        for answer in (
            service.client.get("/v1/keys"),
            service.client.post("/generate", json={"class": 0}, headers={"Authorization": f"Bearer {token}"}),
        ):
            assert_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0


def test_refusals_are_counted_by_their_reason(keyed: tuple[Keyed, dict[str, httpx.Client]]) -> None:
    served, clients = keyed
    served.bare.get("/v1/models")
    served.bare.get("/v1/models", headers={"Authorization": "x"})
    clients["metrics"].get("/v1/models")
    text = served.bare.get("/metrics").text
    found = set(re.findall(r'darkroom_access_refusals_total\{reason="(\w+)"\} [1-9]', text))
    assert found >= {"key_needed", "key_refused", "scope_missing"}
    assert set(chain.from_iterable(need.reading for need in RESOURCES.values())) == {*SCOPES}
