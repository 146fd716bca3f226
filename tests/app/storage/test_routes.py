"""Laws of /storage: every owner has the bytes that it holds, shared bytes count once in the total."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from darkroom.app.cli.main import cli
from darkroom.store.database import Database
from tests.app.keyed import add_key, serving_keyed
from tests.app.served import Service, tiny_weights
from tests.app.test_refusals import assert_problem
from tests.app.training import checkpoint, claim, end, serving_jobs

PICTURE = len(b"picture")
SHAPES = len(b"shapes") + PICTURE


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path, database_url) as service:
        yield service


def _use(service: Service, **query: Any) -> dict[str, Any]:
    answer = service.client.get("/v1/storage", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _owners(use: dict[str, Any]) -> dict[str, int]:
    return {one["link"]: one["bytes"] for one in use["largest"]}


def test_each_owner_has_the_bytes_that_it_holds(served: Service, database: Database) -> None:
    assert _owners(_use(served)) == {"/v1/datasets/shapes": SHAPES}

    body = {"recipe": "digits", "dataset": "shapes", "model": "mine"}
    job = served.client.post("/v1/train-jobs", json=body).json()["id"]
    lease = claim(database)
    checkpoint(database, lease, 100, {"fid-x": 3.0})
    checkpoint(database, lease, 200, {"fid-x": 2.0})
    end(database, lease)
    data = tiny_weights()
    assert served.client.post("/v1/models/added/versions", content=data).status_code == 201
    assert served.client.post("/v1/models/same/versions", content=data).status_code == 201
    states = sum(len(f"state {job} {images}") for images in (100, 200))
    weights = sum(len(f"weights {job} {images}") for images in (100, 200))

    use = _use(served)
    assert _owners(use) == {
        "/v1/datasets/shapes": SHAPES,
        f"/v1/train-jobs/{job}": states,
        "/v1/models/mine": weights,
        "/v1/models/added": len(data),
        "/v1/models/same": len(data),
    }
    assert use["bytes"] == {
        "dataset": SHAPES,
        "model": weights + 2 * len(data),
        "train-job": states,
        "generate-job": 0,
    }
    assert use["artifact_bytes"] == SHAPES + states + weights + len(data)  # shared weights are stored once
    assert use["unused_bytes"] == 0
    assert use["database_bytes"] > use["artifact_bytes"]
    sizes = [one["bytes"] for one in use["largest"]]
    assert sizes == sorted(sizes, reverse=True)
    assert [one["name"] for one in _use(served, limit=2)["largest"]] == ["added", "same"]
    for one in use["largest"]:
        assert served.client.get(one["link"]).status_code == 200
    assert_problem(served.client.get("/v1/storage", params={"limit": 0}), 422)


def test_deleted_bytes_are_unused_until_they_are_collected(served: Service) -> None:
    before = _use(served)
    assert served.client.delete("/v1/datasets/shapes").status_code == 204
    after = _use(served)
    assert after["largest"] == []
    assert after["artifact_bytes"] == before["artifact_bytes"] == after["unused_bytes"] == SHAPES


def test_the_command_prints_a_line_for_each_owner(served: Service) -> None:
    data = tiny_weights()
    assert served.client.post("/v1/models/added/versions", content=data).status_code == 201
    result = CliRunner().invoke(cli, ["storage", "--url", served.url], env={"COLUMNS": "40"})
    assert result.exit_code == 0, result.output
    header, model, dataset, together, artifacts, on_disk = result.output.splitlines()
    assert header.split() == ["size", "kind", "name"]
    assert model.split()[2:] == ["model", "added"]
    assert dataset.split() == [str(SHAPES), "bytes", "dataset", "shapes"]
    assert f"datasets {SHAPES} bytes" in together
    assert "0 bytes will be deleted soon" in artifacts
    assert on_disk.startswith("Database on its disk: ")


def test_storage_needs_the_scope_train(weights: Path, database_url: str, database: Database) -> None:
    tokens = [add_key(database, scope)[1] for scope in ("generate", "train")]
    with serving_keyed(weights, tokens, database_url=database_url) as keyed:
        assert [client.get("/v1/storage").status_code for client in (keyed.bare, *keyed.clients)] == [401, 403, 200]
