"""The name of each operation, and a request that works: what "Try it out" in /docs is filled with.

The requests are about the models that ship with the service, a data set `clothes`, and the first job, sweep and key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Operation:
    """name: the operation's id, of which generators make the names of functions.

    parameters: values by name, for those that need one or are best tried with one. body: an example of a JSON body.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


_JOB = {"job_id": 1}
_SWEEP = {"sweep_id": 1}
_GENERATE_JOB = {"id": 1}
_KEY = {"key_id": 1}
_MODEL = {"name": "fashion-mnist"}
_VERSION = {"name": "fashion-mnist", "version": "1"}
_DATASET = {"name": "clothes"}
_TRIED = {"dry_run": True}

_TRAIN = {"recipe": "digits", "dataset": "clothes", "overrides": {"training.total_images": 20_000}}
_SAMPLES = {"class": ["Sneaker", "Bag"], "n": 2, "seed": 7}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("get", "/healthz"): Operation("check_health"),
    ("get", "/readyz"): Operation("check_readiness"),
    ("get", "/metrics"): Operation("get_prometheus_metrics"),
    ("post", "/generate"): Operation("generate_images_unversioned", body=_SAMPLES),
    ("post", "/train-jobs"): Operation("create_train_job_unversioned", body=_TRAIN),
    ("post", "/v1/generate"): Operation("generate_images", body=_SAMPLES),
    ("post", "/v1/interpolate"): Operation(
        "interpolate_images", body={"class": ["Sneaker", "Ankle boot"], "seeds": [7, 8], "count": 4}
    ),
    ("post", "/v1/verify"): Operation("verify_image"),
    ("post", "/v1/generate-jobs"): Operation("create_generate_job", body={"class": "Sneaker", "n": 4, "seed": 7}),
    ("get", "/v1/generate-jobs"): Operation("list_generate_jobs"),
    ("get", "/v1/generate-jobs/{id}"): Operation("get_generate_job", _GENERATE_JOB),
    ("delete", "/v1/generate-jobs/{id}"): Operation("delete_generate_job", _GENERATE_JOB | _TRIED),
    ("post", "/v1/generate-jobs/{id}/cancel"): Operation("cancel_generate_job", _GENERATE_JOB),
    ("post", "/v1/generate-jobs/{id}/retry"): Operation("retry_generate_job", _GENERATE_JOB),
    ("get", "/v1/generate-jobs/{id}/result"): Operation("download_generate_job_result", _GENERATE_JOB),
    ("post", "/v1/train-jobs"): Operation("create_train_job", body=_TRAIN),
    ("get", "/v1/train-jobs"): Operation("list_train_jobs"),
    ("get", "/v1/train-jobs/{job_id}"): Operation("get_train_job", _JOB),
    ("patch", "/v1/train-jobs/{job_id}"): Operation("update_train_job", _JOB, {"keep": True}),
    ("delete", "/v1/train-jobs/{job_id}"): Operation("delete_train_job", _JOB | _TRIED),
    ("post", "/v1/train-jobs/{job_id}/cancel"): Operation("cancel_train_job", _JOB),
    ("post", "/v1/train-jobs/{job_id}/resume"): Operation("resume_train_job", _JOB),
    ("post", "/v1/train-jobs/{job_id}/retry"): Operation("retry_train_job", _JOB),
    ("get", "/v1/train-jobs/{job_id}/checkpoints"): Operation("list_train_job_checkpoints", _JOB),
    ("get", "/v1/train-jobs/{job_id}/evaluations"): Operation("list_train_job_evaluations", _JOB),
    ("get", "/v1/train-jobs/{job_id}/samples"): Operation("list_train_job_samples", _JOB),
    ("get", "/v1/train-jobs/{job_id}/samples/{images_seen}"): Operation(
        "get_train_job_sample_grid", _JOB | {"images_seen": 10_000}
    ),
    ("get", "/v1/train-jobs/{job_id}/metrics"): Operation("get_train_job_curves", _JOB),
    ("get", "/v1/train-jobs/{job_id}/logs"): Operation("list_train_job_log_lines", _JOB),
    ("get", "/v1/train-jobs/{job_id}/events"): Operation("watch_train_job", _JOB),
    ("get", "/v1/recipes"): Operation("list_recipes"),
    ("get", "/v1/plan"): Operation("plan_training", {"dataset": "clothes", "minutes": 45}),
    ("post", "/v1/sweeps"): Operation(
        "create_sweep",
        body=_TRAIN | {"name": "learning rates", "grid": {"optimizer.learning_rate": [1e-4, 3e-4]}, "model": "rates"},
    ),
    ("get", "/v1/sweeps"): Operation("list_sweeps"),
    ("get", "/v1/sweeps/{sweep_id}"): Operation("get_sweep", _SWEEP),
    ("delete", "/v1/sweeps/{sweep_id}"): Operation("delete_sweep", _SWEEP | _TRIED),
    ("post", "/v1/sweeps/{sweep_id}/cancel"): Operation("cancel_sweep", _SWEEP),
    ("get", "/v1/models"): Operation("list_models"),
    ("get", "/v1/models/{name}"): Operation("get_model", _MODEL),
    ("patch", "/v1/models/{name}"): Operation("share_model", _MODEL, {"shared": True}),
    ("delete", "/v1/models/{name}"): Operation("delete_model", _MODEL | _TRIED),
    ("put", "/v1/models/{name}/alias/{alias}"): Operation(
        "set_model_alias", _MODEL | {"alias": "candidate"}, {"version": 1}
    ),
    ("delete", "/v1/models/{name}/alias/{alias}"): Operation("delete_model_alias", _MODEL | {"alias": "candidate"}),
    ("post", "/v1/models/{name}/versions"): Operation("add_model_version", {"name": "mine"}),
    ("get", "/v1/models/{name}/versions/{version}"): Operation("get_model_version", _VERSION),
    ("patch", "/v1/models/{name}/versions/{version}"): Operation("update_model_version", _VERSION, {"keep": True}),
    ("delete", "/v1/models/{name}/versions/{version}"): Operation("delete_model_version", _VERSION | _TRIED),
    ("get", "/v1/models/{name}/versions/{version}/weights"): Operation("download_model_weights", _VERSION),
    ("post", "/v1/datasets"): Operation(
        "create_dataset", {"name": "clothes", "format": "zip"}, {"name": "digits", "format": "digits"}
    ),
    ("put", "/v1/datasets/{name}"): Operation("replace_dataset", _DATASET | {"format": "zip"}, {"format": "digits"}),
    ("get", "/v1/datasets"): Operation("list_datasets"),
    ("get", "/v1/datasets/{name}"): Operation("get_dataset", _DATASET),
    ("patch", "/v1/datasets/{name}"): Operation("update_dataset", _DATASET, {"keep": True}),
    ("delete", "/v1/datasets/{name}"): Operation("delete_dataset", _DATASET | _TRIED),
    ("get", "/v1/datasets/{name}/contact-sheet"): Operation("get_dataset_contact_sheet", _DATASET),
    ("get", "/v1/datasets/{name}/pictures"): Operation("get_dataset_pictures", _DATASET),
    ("get", "/v1/datasets/{name}/check"): Operation("check_dataset", _DATASET),
    ("post", "/v1/keys"): Operation("create_key", body={"name": "ada", "scopes": ["generate", "train"]}),
    ("get", "/v1/keys"): Operation("list_keys"),
    ("patch", "/v1/keys/{key_id}"): Operation("update_key", _KEY, {"images_per_day": 1000}),
    ("post", "/v1/keys/{key_id}/revoke"): Operation("revoke_key", _KEY),
    ("get", "/v1/storage"): Operation("get_storage"),
    ("get", "/v1/audit-events"): Operation("list_audit_events"),
}
"""By method and path. A test compares them with the routes."""

_TRAIN_JOB = ("/v1/train-jobs/{job_id}", {"job_id": "$response.body#/id"})

CREATED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "create_train_job": _TRAIN_JOB,
    "create_train_job_unversioned": _TRAIN_JOB,
    "create_sweep": ("/v1/sweeps/{sweep_id}", {"sweep_id": "$response.body#/id"}),
    "create_generate_job": ("/v1/generate-jobs/{id}", {"id": "$response.body#/id"}),
    "create_dataset": ("/v1/datasets/{name}", {"name": "$response.body#/name"}),
    "create_key": ("/v1/keys/{key_id}", {"key_id": "$response.body#/id"}),
    "add_model_version": (
        "/v1/models/{name}/versions/{version}",
        {"name": "$request.path.name", "version": "$response.body#/version"},
    ),
}
"""For each operation that creates something: its address, and where the answer has the address's parameters."""


def links(name: str) -> dict[str, Any]:
    """Return the links (OpenAPI) of an operation's answer: the operations on the thing that it has created."""
    address, parameters = CREATED[name]
    return {
        other.name: {"operationId": other.name, "parameters": dict(parameters)}
        for (_, path), other in OPERATIONS.items()
        if path.startswith(address)
    }
