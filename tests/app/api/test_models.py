"""Laws of GET /models on a real store: what is shipped is registered, listed once, and can be pinned by number."""

from pathlib import Path

import numpy as np

from store.database import Database
from tests.app.served import CLASS_NAMES, Service, serving, store_weights, tiny_weights, weights_folder
from tests.processes import wait_until


def _listed(service: Service) -> list[str]:
    return [model["name"] for model in service.client.get("/v1/models").json()["models"]]


def test_models_are_registered_listed_and_pinned(tmp_path: Path, database_url: str, database: Database) -> None:
    folder = weights_folder(tmp_path / "weights", tiny=0, other=1)
    for _ in range(2):  # the second start finds what the first one stored
        with serving(folder, default_model="tiny", database_url=database_url) as service:
            wait_until(lambda service=service: _listed(service) == ["other", "tiny"], "both models registered")
            answer = service.client.get("/models/tiny").json()
            assert answer["versions"] == 1
            assert answer["class_names"] == list(CLASS_NAMES)
            assert answer["default_sampling"]["steps"] == 4
            assert answer["newest"][0]["resident"]
            assert answer["newest"][0]["metrics"] == {"fid": 12.5}
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

        first = service.client.get("/models", params={"limit": 1}).json()
        second = service.client.get("/models", params={"limit": 1, "after": first["next_after"]}).json()
        assert [page["models"][0]["name"] for page in (first, second)] == ["other", "tiny"]
        assert second["next_after"] is None

        for path in ("/models?limit=0", "/models?limit=x", "/models?after=%00", "/models/A"):
            answer = service.client.get(path)
            assert answer.status_code == 422, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
        assert service.client.get("/models/none").status_code == 404
        assert service.client.post("/generate", json={"class": 0, "model": "tiny@9"}).status_code == 422
        assert np.array_equal(service.images(seed=1), service.images(seed=1, model="tiny"))
