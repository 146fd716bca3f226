"""Law of strange bodies: each is refused with problem details, or accepted and readable afterwards. None is a 5xx."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom.store.job_forms import TrainWork
from tests.app.generation.test_fuzz import JSON
from tests.app.served import Service
from tests.app.training import configuration, serving_jobs

FIELDS = st.sampled_from(
    [
        "training.total_images",
        "training.seed",
        "training.devices",
        "model.unet.dropout",
        "model.unet.multipliers",
        "model.unet",
        "model.unet.width",
        "optimizer.learning_rate",
        "optimizer.gradient_clip",
        "evaluation",
        "evaluation.images",
        "sampling.steps",
        "description",
        "name",
        "dataset.path",
        "a..b",
    ]
)
VALUES = st.sampled_from([0, 1, 32, 1e-3, 0.5, [1, 2], [1], None, "x", 2**62, 2**64, {}]) | JSON
PLAUSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "recipe": st.sampled_from(["digits", "none", configuration(), configuration() | {"name": "own"}]),
    "overrides": st.dictionaries(FIELDS | st.text(max_size=5), VALUES, max_size=3),
    "dataset": st.sampled_from(["shapes", "none"]),
    "model": st.sampled_from(["m", "M", "m" * 60]),
    "priority": st.integers(-101, 101),
    "device": st.sampled_from(["auto", "cpu", "cuda", "x"]),
    "promote": st.sampled_from(["never", "best"]),
    "max_attempts": st.integers(0, 101),
    "keep_last": st.integers(0, 3),
    "evaluate_every_images": st.integers(0, 10_000),
    "from_job": st.integers(0, 3),
    "images_seen": st.integers(0, 3),
    "from_model": st.sampled_from(["m@1", "m"]),
}
LIKELY = st.fixed_dictionaries(
    {"recipe": PLAUSIBLE["recipe"], "dataset": PLAUSIBLE["dataset"]},
    optional={"overrides": PLAUSIBLE["overrides"], "evaluate_every_images": PLAUSIBLE["evaluate_every_images"]},
)
ANYHOW = st.fixed_dictionaries({}, optional={name: strategy | JSON for name, strategy in PLAUSIBLE.items()})
SWEEPS = st.fixed_dictionaries(
    {"recipe": st.just("digits"), "dataset": st.just("shapes"), "name": st.text(max_size=5)},
    optional={
        "grid": st.dictionaries(FIELDS | st.text(max_size=5), st.lists(VALUES, max_size=3), max_size=2) | JSON,
        "seeds": st.lists(st.integers(-1, 2**64), max_size=2) | JSON,
        "overrides": PLAUSIBLE["overrides"],
    },
)
RELAXED = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path_factory.mktemp("nothing"), module_database_url) as service:
        yield service


def _check(service: Service, path: str, body: Any) -> dict[str, Any] | None:
    answer = service.client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (202, 400, 409, 422), answer.text
    found: dict[str, Any] = answer.json()
    if answer.status_code == 202:
        return found
    assert answer.headers["content-type"] == "application/problem+json"
    assert found["status"] == answer.status_code
    assert answer.status_code != 422 or found["errors"]
    return None


@RELAXED
@given(LIKELY | ANYHOW)
def test_train_jobs(jobs: Service, body: dict[str, Any]) -> None:
    accepted = _check(jobs, "/train-jobs", body)
    if accepted is not None:
        TrainWork.model_validate(accepted["configuration"])
        assert jobs.client.get(accepted["links"]["self"]).json() == accepted


@RELAXED
@given(SWEEPS)
def test_sweeps(jobs: Service, body: dict[str, Any]) -> None:
    accepted = _check(jobs, "/v1/sweeps", body)
    if accepted is not None:
        assert jobs.client.get(accepted["links"]["self"]).status_code == 200


@settings(RELAXED, max_examples=60)
@given(JSON)
def test_anything(jobs: Service, body: Any) -> None:
    for path in ("/v1/train-jobs", "/v1/sweeps"):
        assert _check(jobs, path, body) is None
