"""Laws of refusing settings with which a model would draw noise: the refusal names the field and the remedy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from darkroom.model.checkpoint import decode_checkpoint, encode_checkpoint
from darkroom.store.database import Database
from tests.app.served import Service, serving, store_weights, tiny_weights
from tests.app.test_refusals import assert_problem
from tests.model.small import small_recipe


def classes_only_weights(name: str = "classes-only") -> bytes:
    """Return weights with a snapshot that were trained with label_drop 0."""
    made = decode_checkpoint(tiny_weights(name, 3, snapshot_seed=4, guidance=1.0), source="made")
    recipe = small_recipe(objective__label_drop=0.0)
    return encode_checkpoint(made.header.model_copy(update={"recipe": recipe}), made.weights, made.snapshot)


def eps_weights(name: str = "eps") -> bytes:
    """Return weights that predict eps. The model's own settings have no threshold and begin at sigma/alpha 80."""
    made = decode_checkpoint(tiny_weights(name, 3, threshold="none", spacing="log_snr", guidance=1.0), source="made")
    model = made.header.model.model_copy(update={"prediction": "eps"})
    return encode_checkpoint(made.header.model_copy(update={"model": model}), made.weights)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("unsuitable")
    (folder / "classes-only.safetensors").write_bytes(classes_only_weights())
    (folder / "eps.safetensors").write_bytes(eps_weights())
    with serving(folder, request_rows=32) as service:
        yield service


GUIDED = {"guidance": 2.0}
UNBOUNDED = {"spacing": "trailing", "threshold": "none"}
INTERPOLATION = {"seeds": [1, 2], "class": "One", "count": 2}


@pytest.mark.parametrize(
    ("path", "change", "pointer", "says"),
    [
        ("/generate", {"model": "classes-only"} | GUIDED, "/guidance", "label_drop 0"),
        ("/generate", {"model": "classes-only", "guidance": 0.0}, "/guidance", "set it to 1"),
        ("/generate", {"model": "classes-only", "quality": "fast"} | GUIDED, "/guidance", "label_drop 0"),
        ("/generate", {"model": "classes-only", "deadline_seconds": 60} | GUIDED, "/guidance", "label_drop 0"),
        ("/generate", {"model": "classes-only", "best_of": 2}, "/best_of", "label_drop 0"),
        ("/v1/interpolate", {"model": "classes-only"} | INTERPOLATION | GUIDED, "/guidance", "label_drop 0"),
        ("/generate", {"model": "eps"} | UNBOUNDED, "/threshold", "static or dynamic"),
        ("/generate", {"model": "eps", "quality": "fast", "threshold": "none"}, "/threshold", "static or dynamic"),
        ("/v1/interpolate", {"model": "eps"} | UNBOUNDED | INTERPOLATION, "/threshold", "static or dynamic"),
    ],
    ids=str,
)
def test_settings_that_would_draw_noise_are_refused_by_field(
    service: Service, path: str, change: dict[str, Any], pointer: str, says: str
) -> None:
    problem = assert_problem(service.client.post(path, json={"class": "One"} | change), 422)
    (error,) = problem["errors"]
    assert error["pointer"] == pointer
    assert says in error["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "classes-only"},
        {"model": "classes-only", "guide": "snapshot"} | GUIDED,
        {"model": "eps"},
        {"model": "eps", "spacing": "trailing", "threshold": "static"},
        {"model": "eps", "quality": "fast", "threshold": "dynamic"},
        {"model": "eps", "best_of": 2},
        {"model": "eps"} | GUIDED,
    ],
    ids=str,
)
def test_all_other_settings_are_drawn(service: Service, change: dict[str, Any]) -> None:
    assert len(service.images(**change)) == 1


@pytest.mark.parametrize("change", [{"spacing": "trailing"}, {"quality": "fast"}], ids=str)
def test_a_threshold_that_the_request_does_not_name_is_replaced(service: Service, change: dict[str, Any]) -> None:
    answer = service.generate(model="eps", **{"class": "One"}, **change)
    assert (answer["spacing"], answer["threshold"]) == ("trailing", "dynamic")


def test_a_generate_job_is_refused_in_the_same_way(tmp_path: Path, database_url: str, database: Database) -> None:
    store_weights(database, classes_only_weights())
    with serving(tmp_path, database_url=database_url) as service:
        body = {"model": "classes-only", "class": "One"}
        problem = assert_problem(service.client.post("/v1/generate-jobs", json=body | GUIDED), 422)
        assert [error["pointer"] for error in problem["errors"]] == ["/guidance"]
        assert service.client.post("/v1/generate-jobs", json=body).status_code == 202
