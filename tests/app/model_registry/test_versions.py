"""Laws of a model's versions: weights are checked completely, come back as they were sent, and are deleted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load, save
from sqlalchemy import update

from darkroom.model.checkpoint import decode_checkpoint, encode_checkpoint
from darkroom.model.digest import digest_of
from darkroom.store.database import Database
from darkroom.store.model_repository import resolve
from darkroom.store.tables import ArtifactChunk
from tests.app.keyed import add_key, serving_keyed
from tests.app.served import (
    CLASS_NAMES,
    DIVERGED,
    SIDE,
    Service,
    diverged_weights,
    serving,
    store_weights,
    tiny_weights,
    weights_folder,
)
from tests.app.test_refusals import assert_problem
from tests.app.training import add_dataset, checkpoint, claim, end
from tests.processes import wait_until

VERSIONS = "/v1/models/tiny/versions"
OCTETS = "application/octet-stream"


@pytest.fixture
def service(tmp_path: Path, database_url: str, database: Database) -> Iterator[Service]:
    folder = weights_folder(tmp_path / "weights")
    with serving(folder, database_url=database_url, weights_limit_bytes=200_000, alias_poll_seconds=0.05) as service:
        wait_until(lambda: service.client.get("/v1/models/tiny").status_code == 200, "registered")
        yield service


def _add(service: Service, data: bytes | Iterator[bytes], name: str = "tiny", **headers: str) -> httpx.Response:
    return service.client.post(f"/v1/models/{name}/versions", content=data, headers=headers)


def _audited(service: Service, action: str) -> list[tuple[str, Any]]:
    events = service.client.get("/v1/audit-events", params={"action": action}).json()["audit_events"]
    return [(event["target"], event["data"]) for event in events]


def test_weights_are_downloaded_as_they_are_stored(service: Service) -> None:
    data, digest = tiny_weights(), digest_of(tiny_weights())
    for version in ("1", digest, "production"):
        address = f"{VERSIONS}/{version}/weights"
        answer = service.client.get(address)
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-type"] == OCTETS
        assert answer.headers["etag"] == f'"{digest}"'
        assert answer.headers["content-length"] == str(len(data))
        assert answer.headers["content-disposition"] == 'attachment; filename="tiny-1.safetensors"'
        known = service.client.get(address, headers={"If-None-Match": f'"{digest}"'})
        assert (known.status_code, known.content) == (304, b"")
        part = service.client.get(address, headers={"Range": "bytes=-100"})
        assert (part.status_code, part.content) == (206, data[-100:])
        head = service.client.head(address)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
    for version, status in (("2", 404), ("nothing", 404), ("sha256:" + "0" * 64, 404), ("0", 422), ("A", 422)):
        assert_problem(service.client.get(f"{VERSIONS}/{version}/weights"), status)
    assert_problem(service.client.get("/v1/models/none/versions/1/weights"), 404)


def test_damaged_weights_are_not_sent(service: Service, database: Database) -> None:
    digest = store_weights(database, tiny_weights("tiny", 5), "trained")
    with database.session() as session:
        damaged = update(ArtifactChunk).where(ArtifactChunk.digest == digest)
        session.execute(damaged.values(data=tiny_weights("tiny", 6)[: len(tiny_weights("tiny", 5))]))
    problem = assert_problem(service.client.get(f"{VERSIONS}/2/weights"), 500)
    assert problem["type"] == "/docs/errors#artifact-unusable"


def test_weights_of_another_service_are_added_and_drawn_with(service: Service) -> None:
    data = tiny_weights("elsewhere", 5)
    answer = _add(service, data)
    assert answer.status_code == 201, answer.text
    added = answer.json()
    assert answer.headers["location"] == f"{VERSIONS}/2"
    shown = service.client.get(f"{VERSIONS}/2").json()
    checkpoint = decode_checkpoint(data, source="test")
    facts = {
        "image_size": SIDE,
        "image_channels": 1,
        "parameters": sum(one.numel() for one in checkpoint.weights.values()),
    }
    assert shown == {
        **added,
        **facts,
        "default_sampling": checkpoint.header.sampling.model_dump(mode="json"),
        "recipe": None,
        "undrawn": [],
    }
    assert (added["version"], added["source"], added["digest"]) == (2, "imported", digest_of(data))
    assert (added["class_names"], added["kept"], added["size_bytes"]) == (list(CLASS_NAMES), True, len(data))
    assert service.client.get("/v1/models/tiny").json()["newest"][0] == added
    assert service.client.get("/v1/models/tiny").json()["aliases"]["production"]["version"] == 1
    assert service.client.get(f"{VERSIONS}/2/weights").content == data
    assert service.generate(model="tiny@2")["version"] == digest_of(data)

    again = _add(service, data)
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert _audited(service, "version.added") == [("models/tiny/versions/2", {"version": 2, "digest": digest_of(data)})]


def test_the_first_version_of_a_new_model_is_served(service: Service) -> None:
    assert _add(service, tiny_weights("elsewhere", 5), "new").status_code == 201
    wait_until(
        lambda: service.client.post("/generate", json={"class": 0, "model": "new"}).status_code == 200, "a new model"
    )
    assert service.client.get("/v1/models/new").json()["aliases"]["production"]["version"] == 1
    target = {"target": "models/new/alias/production"}
    (moved,) = service.client.get("/v1/audit-events", params=target).json()["audit_events"]
    assert (moved["action"], moved["actor"]) == ("alias.moved", "loopback")


def _with_header(**changes: Any) -> bytes:
    good = decode_checkpoint(tiny_weights(), source="good")
    return encode_checkpoint(good.header.model_copy(update=changes), good.weights)


def _without(name: str) -> bytes:
    good = decode_checkpoint(tiny_weights(), source="good")
    return encode_checkpoint(good.header, {key: value for key, value in good.weights.items() if key != name})


def _pickle() -> bytes:
    return b"\x80\x04cbuiltins\nprint\n(S'executed'\ntR."


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: b"", "not a readable safetensors file"),
        (_pickle, "not a readable safetensors file"),
        (lambda: tiny_weights()[:-1], "not a readable safetensors file"),
        (lambda: save(load(tiny_weights())), "no header"),
        (lambda: _without("head.weight"), "head.weight"),
        (lambda: _with_header(class_names=("a", "b")), "do not fit the configuration"),
        *((lambda factor=factor: diverged_weights(factor=factor), "not finite") for factor in DIVERGED.values()),
    ],
)
def test_weights_that_cannot_be_drawn_with_are_refused(service: Service, make: Callable[[], bytes], says: str) -> None:
    problem = assert_problem(_add(service, make()), 422)
    assert problem["type"] == "/docs/errors#weights-unusable"
    assert says in problem["detail"]
    assert service.client.get("/v1/models/tiny").json()["versions"] == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"class_names": ("Zero", "One", "a\0b", "Two")}, "/class_names/2"),
        ({"images_seen": 2**63}, "/images_seen"),
    ],
)
def test_a_header_that_no_column_can_hold_is_refused(service: Service, changes: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(_add(service, _with_header(**changes)), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert service.client.get("/v1/models/tiny").json()["versions"] == 1


def test_weights_that_are_too_large_and_forms_are_refused(service: Service) -> None:
    assert_problem(_add(service, bytes(200_001)), 413)
    assert_problem(_add(service, iter([bytes(150_000)] * 2)), 413)
    files = {"file": ("tiny.safetensors", tiny_weights("tiny", 5))}
    assert "--data-binary" in assert_problem(service.client.post(VERSIONS, files=files), 415)["detail"]
    assert_problem(_add(service, tiny_weights(), "Bad"), 422)


def test_a_version_is_deleted_and_can_be_added_again(service: Service, database: Database) -> None:
    data = tiny_weights("tiny", 5)
    _add(service, data)
    assert service.generate(model="tiny@2")["version"] == digest_of(data)  # it is in memory now
    assert service.client.delete(f"{VERSIONS}/2").status_code == 204
    shown = service.client.get(f"{VERSIONS}/2").json()
    assert (shown["version"], shown["digest"], shown["kept"]) == (2, digest_of(data), False)
    assert (shown["image_size"], shown["parameters"], shown["default_sampling"]) == (None, None, None)
    for method, address in (("GET", f"{VERSIONS}/2/weights"), ("DELETE", f"{VERSIONS}/2")):
        assert assert_problem(service.client.request(method, address), 410)["type"] == "/docs/errors#version-collected"
    assert_problem(service.client.post("/generate", json={"class": 0, "model": "tiny@2"}), 410)
    assert _audited(service, "version.deleted") == [
        ("models/tiny/versions/2", {"version": 2, "digest": digest_of(data)})
    ]
    assert _add(service, data).status_code == 201
    assert service.client.get(f"{VERSIONS}/2").json()["kept"]
    assert service.generate(model="tiny@2")["version"] == digest_of(data)
    assert_problem(service.client.delete(f"{VERSIONS}/9"), 404)
    assert_problem(service.client.delete("/v1/models/none/versions/1"), 404)


def test_the_production_version_cannot_be_deleted(service: Service) -> None:
    for force in (False, True):
        problem = assert_problem(service.client.delete(f"{VERSIONS}/1", params={"force": force}), 409)
        assert problem["type"] == "/docs/errors#in-use"
        (dependent,) = problem["dependents"]
        assert dependent == {
            "resource": "/v1/models/tiny/alias/production",
            "reason": "points at it",
            "blocks": True,
        }
    assert service.client.get(f"{VERSIONS}/1").json()["kept"]


def test_force_deletes_the_aliases_too(service: Service) -> None:
    _add(service, tiny_weights("tiny", 5))
    assert service.client.put("/v1/models/tiny/alias/candidate", json={"version": 2}).status_code == 200
    problem = assert_problem(service.client.delete(f"{VERSIONS}/candidate"), 409)
    assert [one["resource"] for one in problem["dependents"]] == ["/v1/models/tiny/alias/candidate"]
    assert service.client.get(f"{VERSIONS}/candidate").json()["kept"]
    assert service.client.delete(f"{VERSIONS}/candidate", params={"force": True}).status_code == 204
    assert service.client.get("/v1/models/tiny").json()["aliases"].keys() == {"production"}
    assert _audited(service, "alias.deleted")[0][0] == "models/tiny/alias/candidate"


def test_unfinished_jobs_keep_their_versions(service: Service, database: Database) -> None:
    add_dataset(database)
    client = service.client
    job = client.post("/v1/train-jobs", json={"recipe": "digits", "dataset": "shapes", "model": "tiny"}).json()["id"]
    lease = claim(database)
    checkpoint(database, lease, 200, {"fid-x": 3.0})
    blocked = assert_problem(client.delete(f"{VERSIONS}/2", params={"force": True}), 409)["dependents"]
    assert [(one["resource"], one["blocks"]) for one in blocked] == [(f"/v1/train-jobs/{job}", True)]
    end(database, lease)
    free = assert_problem(client.delete(f"{VERSIONS}/2"), 409)["dependents"]
    assert [(one["resource"], one["blocks"]) for one in free] == [(f"/v1/train-jobs/{job}", False)]

    body = {"recipe": "digits", "dataset": "shapes", "model": "other", "from_model": "tiny@2"}
    answer = client.post("/v1/train-jobs", json=body)
    assert answer.status_code == 202, answer.text
    child = answer.json()["id"]
    blocked = assert_problem(client.delete(f"{VERSIONS}/2", params={"force": True}), 409)["dependents"]
    assert [(one["resource"], one["blocks"]) for one in blocked] == [
        (f"/v1/train-jobs/{child}", True),
        (f"/v1/train-jobs/{job}", False),
    ]
    assert client.post(f"/v1/train-jobs/{child}/cancel").status_code == 202
    assert client.delete(f"{VERSIONS}/2", params={"force": True}).status_code == 204
    with database.session() as session:
        assert resolve(session, "tiny", 2).artifact_digest is None


def test_generate_jobs_keep_their_versions(service: Service, database: Database) -> None:
    _add(service, tiny_weights("tiny", 5))
    answer = service.client.post("/v1/generate-jobs", json={"model": "tiny@2", "n": 1})
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    here = f"/v1/generate-jobs/{job}"
    (one,) = assert_problem(service.client.delete(f"{VERSIONS}/2", params={"force": True}), 409)["dependents"]
    assert (one["resource"], one["blocks"]) == (here, True)
    service.client.post(f"{here}/cancel")
    (one,) = assert_problem(service.client.delete(f"{VERSIONS}/2"), 409)["dependents"]
    assert (one["resource"], one["blocks"]) == (here, False)
    assert service.client.delete(f"{VERSIONS}/2", params={"force": True}).status_code == 204


def test_each_call_has_its_scope(weights: Path, database_url: str, database: Database) -> None:
    tokens = [add_key(database, scope)[1] for scope in ("generate", "train", "admin")]
    with serving_keyed(weights, tokens, database_url=database_url) as keyed:
        admin = keyed.clients[-1]
        wait_until(lambda: admin.get("/v1/models/tiny").status_code == 200, "registered")
        # a key that may only draw must not take the model away
        assert [client.get(f"{VERSIONS}/1").status_code for client in keyed.clients] == [200, 200, 200]
        assert [client.get(f"{VERSIONS}/1/weights").status_code for client in keyed.clients] == [403, 200, 200]
        assert [client.head(f"{VERSIONS}/1/weights").status_code for client in keyed.clients] == [403, 200, 200]
        data = tiny_weights("tiny", 5)
        assert [client.post(VERSIONS, content=data).status_code for client in keyed.clients] == [403, 403, 201]
        assert [client.delete(f"{VERSIONS}/2").status_code for client in keyed.clients] == [403, 403, 204]
        security = admin.get("/openapi.json").json()["paths"]["/v1/models/{name}/versions/{version}/weights"]["get"]
        assert security["security"] == [{"key": ["train"]}, {"key": ["admin"]}]
