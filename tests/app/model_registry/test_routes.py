"""Laws of /models on a real store: shipped weights are registered once and listed, and aliases move."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import update

from darkroom.app.versions.catalog import Catalog
from darkroom.app.versions.version import Version
from darkroom.model.digest import digest_of
from darkroom.store.aliases import set_alias
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database
from darkroom.store.model_repository import PRODUCTION
from darkroom.store.tables import ArtifactChunk, Checkpoint
from tests.app.served import (
    CLASS_NAMES,
    DIVERGED,
    Service,
    diverged_weights,
    pixels_of,
    serving,
    store_weights,
    tiny_weights,
    weights_folder,
)
from tests.processes import wait_until


def _listed(service: Service) -> list[str]:
    return [model["name"] for model in service.client.get("/v1/models").json()["models"]]


def test_models_are_registered_listed_and_pinned(tmp_path: Path, database_url: str, database: Database) -> None:
    folder = weights_folder(tmp_path / "weights", tiny=0, other=1)
    for _ in range(2):  # the second start finds the versions of the first
        with serving(folder, default_model="tiny", database_url=database_url) as service:
            wait_until(lambda service=service: _listed(service) == ["other", "tiny"], "both models registered")
            answer = service.client.get("/v1/models/tiny").json()
            assert answer["versions"] == 1
            assert answer["class_names"] == list(CLASS_NAMES)
            assert answer["default_sampling"]["steps"] == 4
            assert answer["newest"][0]["resident"]
            assert answer["newest"][0]["metrics"] == {"fid": 12.5}
            assert answer["newest"][0]["evaluations"] == []  # the weights file has the figure without a protocol
            assert answer["newest"][0]["class_names"] == list(CLASS_NAMES)
            assert answer["newest"][0]["verdict"] is None
            assert answer["newest"][0]["little_training"].startswith("It saw ")
            wait_until(
                lambda service=service: (
                    service.client.post("/generate", json={"class": 0, "model": "tiny@1"}).status_code == 200
                ),
                "pinned by number",
            )
            pinned = service.generate(model="tiny@1", seed=3)
            assert pinned["version"] == answer["aliases"]["production"]["digest"] == answer["newest"][0]["digest"]

    newer = store_weights(database, tiny_weights("tiny", seed=5))
    with serving(folder, default_model="tiny", database_url=database_url) as service:
        by_number, by_digest = service.generate(model="tiny@2", seed=3), service.generate(model=f"tiny@{newer}", seed=3)
        assert by_number["version"] == by_digest["version"] == newer
        assert by_number["images"] != service.generate(model="tiny@1", seed=3)["images"]

        first = service.client.get("/v1/models", params={"limit": 1}).json()
        second = service.client.get("/v1/models", params={"limit": 1, "after": first["next_after"]}).json()
        assert first["default_model"] == second["default_model"] == "tiny"
        assert [page["models"][0]["name"] for page in (first, second)] == ["other", "tiny"]
        assert second["next_after"] is None

        for path in ("/v1/models?limit=0", "/v1/models?limit=x", "/v1/models?after=%00", "/v1/models/A"):
            answer = service.client.get(path)
            assert answer.status_code == 422, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
        assert service.client.get("/v1/models/none").status_code == 404
        assert service.client.post("/generate", json={"class": 0, "model": "tiny@9"}).status_code == 422
        assert np.array_equal(service.images(seed=1), service.images(seed=1, model="tiny"))


def _put(service: Service, alias: str, version: Any, name: str = "tiny") -> httpx.Response:
    return service.client.put(f"/v1/models/{name}/alias/{alias}", json={"version": version})


def _kind(answer: httpx.Response, status: int) -> str:
    """Assert that the answer is a problem with this status, and return its type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"]).removeprefix("/docs/errors#")


def _registered(service: Service) -> None:
    wait_until(lambda: service.client.get("/v1/models/tiny").status_code == 200, "registered")


async def test_under_load_each_request_is_answered_by_one_version_while_production_moves(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    with serving(weights_folder(tmp_path), database_url=database_url) as service:
        _registered(service)
        for seed in (5, 6):
            store_weights(database, tiny_weights("tiny", seed), "trained")
        seeds, numbers = range(3), (1, 2, 3)
        drawn = {number: [service.generate(model=f"tiny@{number}", seed=seed) for seed in seeds] for number in numbers}
        digests = {number: drawn[number][0]["version"] for number in numbers}
        pixels = {digests[number]: [pixels_of(one).astype(int) for one in drawn[number]] for number in numbers}
        for one, other in itertools.combinations(pixels.values(), 2):
            assert all(np.abs(a - b).max() > 1 for a, b in zip(one, other, strict=True))

        switched = asyncio.Event()
        answered: list[str] = []

        async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False) as client:

            async def ask(seed: int) -> None:
                while not switched.is_set():
                    body = {"class": "One", "seed": seed, "format": "json"}
                    answer = await client.post("/generate", json=body)
                    assert answer.status_code == 200, answer.text
                    version = answer.headers["darkroom-version"]
                    difference = np.abs(pixels_of(json.loads(answer.text)).astype(int) - pixels[version][seed])
                    assert difference.max() <= 1
                    answered.append(version)

            async def switch() -> None:
                try:
                    for number in (2, 1, 3, 2, 1, 2, 3, 1) * 3:
                        answer = await client.put("/v1/models/tiny/alias/production", json={"version": number})
                        assert answer.status_code == 200, answer.text
                        assert answer.json()["aliases"]["production"]["version"] == number
                        own = await client.post("/generate", json={"class": "One", "seed": 0, "format": "json"})
                        assert own.json()["version"] == digests[number]
                finally:
                    switched.set()

            await asyncio.gather(switch(), *(ask(seed) for seed in [*seeds] * 3))
        assert set(answered) == set(pixels)
        wait_until(lambda: service.rows() == 0, "all rows freed")


async def test_with_memory_for_one_version_no_request_fails_during_a_switch(
    tmp_path: Path, database_url: str, database: Database
) -> None:
    with serving(weights_folder(tmp_path), database_url=database_url, resident_versions=1) as service:
        _registered(service)
        store_weights(database, tiny_weights("tiny", 5), "trained")
        switched = asyncio.Event()
        async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False) as client:

            async def ask() -> None:
                while not switched.is_set():
                    answer = await client.post("/generate", json={"class": "One"})
                    assert answer.status_code == 200, answer.text

            async def switch() -> None:
                try:
                    for number in (2, 1, 2, 1):
                        answer = await client.put("/v1/models/tiny/alias/production", json={"version": number})
                        assert answer.status_code == 200, answer.text
                finally:
                    switched.set()

            await asyncio.gather(switch(), *(ask() for _ in range(3)))


def test_a_version_that_is_evicted_before_its_rows_are_queued_is_loaded_again(
    tmp_path: Path, database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_loaded = Catalog.ensure_loaded
    pushed_out: list[str] = []

    async def then_pushed_out(catalog: Catalog, version: Version) -> None:
        await ensure_loaded(catalog, version)
        if version.number == 1 and not pushed_out:
            other = await catalog.find("tiny@2")
            pushed_out.append(version.digest)
            await ensure_loaded(catalog, other)

    with serving(weights_folder(tmp_path), database_url=database_url, resident_versions=1) as service:
        _registered(service)
        store_weights(database, tiny_weights("tiny", 5), "trained")
        monkeypatch.setattr(Catalog, "ensure_loaded", then_pushed_out)
        assert service.generate(model="tiny@1")["version"] == pushed_out[0]


def test_a_promotion_by_another_replica_is_served(tmp_path: Path, database_url: str, database: Database) -> None:
    folder = weights_folder(tmp_path)
    with (
        serving(folder, database_url=database_url, alias_poll_seconds=0.05) as here,
        serving(folder, database_url=database_url, alias_poll_seconds=0.05) as there,
    ):
        _registered(here)
        trained = store_weights(database, tiny_weights("tiny", 5), "trained")
        new = store_weights(database, tiny_weights("new", 6), "trained")
        assert _put(here, "production", 2).status_code == 200
        assert here.generate()["version"] == trained
        wait_until(lambda: there.generate()["version"] == trained, "followed")
        with database.session() as session:  # like the end of a train job
            set_alias(session, COMMAND_LINE, "new", PRODUCTION, new)
        for service in (here, there):
            wait_until(
                lambda service=service: (
                    service.client.post("/generate", json={"class": 0, "model": "new"}).status_code == 200
                ),
                "a new model",
            )


def test_aliases_are_set_moved_and_deleted(tmp_path: Path, database_url: str, database: Database) -> None:
    with serving(weights_folder(tmp_path), database_url=database_url) as service:
        _registered(service)
        second = store_weights(database, tiny_weights("tiny", 5), "trained")
        for version, number in ((2, 2), ("production", 1), (second, 2), ("candidate", 2)):
            answer = _put(service, "candidate", version)
            assert answer.status_code == 200, answer.text
            assert answer.json()["aliases"]["candidate"]["version"] == number
            assert answer.json() == service.client.get("/v1/models/tiny").json()
        assert service.generate(model="tiny@candidate")["version"] == second
        assert service.generate()["version"] != second
        assert _put(service, "production", "candidate").json()["aliases"]["production"]["version"] == 2
        assert service.generate()["version"] == second

        path = "/v1/models/tiny/alias/candidate"
        assert service.client.delete(path).status_code == 204
        assert _kind(service.client.delete(path), 404) == "no-such-version"
        assert _kind(service.client.delete("/v1/models/none/alias/candidate"), 404) == "no-such-model"
        assert _kind(service.client.delete("/v1/models/tiny/alias/production"), 409) == "production-needed"
        assert service.generate(model="tiny@2")["version"] == second


def test_an_alias_stays_when_its_move_is_refused(tmp_path: Path, database_url: str, database: Database) -> None:
    with serving(weights_folder(tmp_path), database_url=database_url) as service:
        _registered(service)
        damaged, collected = (store_weights(database, tiny_weights("tiny", seed), "trained") for seed in (5, 6))
        with database.session() as session:
            session.execute(update(ArtifactChunk).where(ArtifactChunk.digest == damaged).values(data=b"damaged"))
            session.execute(update(Checkpoint).where(Checkpoint.digest == collected).values(artifact_digest=None))
        before = service.client.get("/v1/models/tiny").json()
        assert [version["kept"] for version in before["newest"]] == [False, True, True]
        shipped = service.generate()["version"]

        assert _kind(_put(service, "production", 2), 503) == "version-unusable"
        for alias in ("production", "candidate"):
            answer = _put(service, alias, 3)
            assert _kind(answer, 410) == "version-collected"
            assert answer.json()["errors"][0]["pointer"] == "/version"
            for missing in (9, "sha256:" + "0" * 64, "nothing"):
                answer = _put(service, alias, missing)
                assert _kind(answer, 422) == "invalid"
                assert answer.json()["errors"][0]["pointer"] == "/version"
            assert _kind(_put(service, alias, 1, name="none"), 404) == "no-such-model"
            for version in (0, -1, 2**31, 1.0, True, None, "", "2", "Production", "sha256:", "a\x00", ["production"]):
                assert _kind(_put(service, alias, version), 422) == "invalid"
        for alias in ("2", "Candidate", "sha256:" + "0" * 64, "-", "a" * 64, "a%00"):
            assert _kind(_put(service, alias, 1), 422) == "invalid"
        path = "/v1/models/tiny/alias/candidate"
        assert _kind(service.client.put(path, content="{"), 415) == "unsupported-media-type"
        assert _kind(service.client.put(path, json={"version": 1, "more": 2}), 422) == "invalid"

        assert service.client.get("/v1/models/tiny").json() == before
        assert service.generate()["version"] == shipped
        for version, status in ((2, 503), (3, 410)):
            answer = service.client.post("/generate", json={"class": 0, "model": f"tiny@{version}"})
            assert _kind(answer, status) == ("version-unusable" if version == 2 else "version-collected")


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_the_pages_of_versions_hold_each_once(size: int, tmp_path: Path, database_url: str, database: Database) -> None:
    with serving(weights_folder(tmp_path), database_url=database_url) as service:
        _registered(service)
        for seed in range(1, 5):
            store_weights(database, tiny_weights("tiny", seed), "trained")
        found: list[int] = []
        before: int | None = None
        while True:
            query = {"limit": size} | ({"before": before} if before else {})
            page = service.client.get("/v1/models/tiny", params=query).json()
            assert len(page["newest"]) <= size
            found += [version["version"] for version in page["newest"]]
            before = page["next_before"]
            if before is None:
                break
        assert found == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("factor", DIVERGED.values(), ids=DIVERGED)
def test_production_is_never_moved_to_weights_that_are_not_finite(
    factor: float, tmp_path: Path, database_url: str, database: Database
) -> None:
    with serving(weights_folder(tmp_path), database_url=database_url) as service:
        _registered(service)
        store_weights(database, diverged_weights("tiny", factor), "trained")
        answer = _put(service, "production", 2)
        assert _kind(answer, 503) == "version-unusable"
        assert "not finite" in answer.json()["detail"]
        assert service.client.get("/v1/models/tiny").json()["aliases"]["production"]["version"] == 1
        answer = service.client.post("/generate", json={"class": 0, "model": "tiny@2"})
        assert _kind(answer, 503) == "version-unusable"
        assert service.generate()["version"] == digest_of(tiny_weights())
