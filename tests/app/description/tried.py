"""Tries every operation out, with what "Try it out" in /docs fills in: the examples and defaults of the document."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.database import Database
from darkroom.store.migrations import upgrade
from tests.app.console.stock import Trainer, archive
from tests.app.keyed import add_key
from tests.app.served import Service, serving, tiny_weights
from tests.app.training import broken, see_measured
from tests.generate_jobs import finish
from tests.processes import wait_until

Json = dict[str, Any]

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

DRAWN = ("generate_images", "generate_images_unversioned", "interpolate_images")
"""These are tried twice: for a picture, and for JSON."""

BEFORE_JOBS = ("check_health", "check_readiness", "get_prometheus_metrics", "generate_images_unversioned")
BEFORE_JOBS += ("generate_images", "verify_image", "interpolate_images", "list_recipes", "list_models", "get_model")
BEFORE_JOBS += ("share_model",)
BEFORE_JOBS += ("get_model_version", "update_model_version", "download_model_weights", "set_model_alias")
BEFORE_JOBS += ("delete_model_alias", "add_model_version", "create_dataset", "replace_dataset", "list_datasets")
BEFORE_JOBS += ("get_dataset", "update_dataset", "get_dataset_contact_sheet", "get_dataset_pictures", "check_dataset")
BEFORE_JOBS += ("plan_training", "create_train_job")
AFTER_TRAINING = ("list_train_job_checkpoints", "list_train_job_evaluations", "list_train_job_samples")
AFTER_TRAINING += ("get_train_job_sample_grid", "get_train_job_curves", "list_train_job_log_lines", "list_train_jobs")
AFTER_TRAINING += ("get_train_job", "retry_train_job", "cancel_train_job", "resume_train_job")
WITH_AN_ENDED_JOB = ("watch_train_job", "update_train_job", "delete_train_job", "create_train_job_unversioned")
WITH_AN_ENDED_JOB += ("create_sweep", "list_sweeps", "get_sweep", "cancel_sweep", "delete_sweep")
WITH_AN_ENDED_JOB += ("create_generate_job", "list_generate_jobs", "get_generate_job", "cancel_generate_job")
WITH_AN_ENDED_JOB += ("retry_generate_job",)
AFTER_DRAWING = ("download_generate_job_result", "delete_generate_job", "delete_model_version", "delete_model")
AFTER_DRAWING += ("delete_dataset", "get_storage", "list_audit_events")
WITH_A_KEY = ("create_key", "list_keys", "update_key", "revoke_key")


@contextmanager
def private_database() -> Iterator[tuple[Path, Database, str]]:
    """Yield an empty folder, and a database in it with its URL, for programs that are no tests."""
    with tempfile.TemporaryDirectory() as name:
        (data := Path(name) / "postgres").mkdir()
        server = PrivatePostgres(data)
        server.start()
        try:
            upgrade(server.url)
            database = Database(server.url)
            yield Path(name), database, server.url
            database.dispose()
        finally:
            server.stop()


@contextmanager
def serving_examples(folder: Path, database_url: str, token: str | None = None, **settings: Any) -> Iterator[Service]:
    """Run the service with a tiny model in place of fashion-mnist. token: of a key, if the database has keys."""
    weights = folder / "weights"
    weights.mkdir()
    (weights / "fashion-mnist.safetensors").write_bytes(tiny_weights("fashion-mnist", class_names=CLASS_NAMES))
    with serving(weights, database_url=database_url, **settings) as service:
        if token is not None:
            service.client.headers["Authorization"] = f"Bearer {token}"
        wait_until(lambda: service.client.get("/v1/models/fashion-mnist").is_success, "the model is registered")
        yield service


def filled_in(operation: Json) -> dict[str, Json]:
    """Return the values by place (path, query, header) that "Try it out" fills in."""
    filled: dict[str, Json] = {"path": {}, "query": {}, "header": {}}
    for parameter in operation.get("parameters", ()):
        value = parameter.get("example", parameter["schema"].get("default"))
        if value is None or value == []:
            assert not parameter["required"], f"{parameter['name']} of {operation['operationId']} needs an example"
            continue
        filled[parameter["in"]][parameter["name"]] = value
    return filled


def try_out(client: httpx.Client, path: str, method: str, operation: Json, upload: bytes) -> httpx.Response:
    """Send an operation's example. upload: the file that the user picks where the body is one."""
    values = filled_in(operation)
    sent: Json = {"params": values["query"], "headers": values["header"]}
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        if media == "application/json":
            (example,) = content["examples"].values()
            sent["json"] = example["value"]
        else:
            sent["content"], sent["headers"] = upload, {"Content-Type": media}
        break  # the first media type is chosen at the beginning
    return client.request(method, path.format(**values["path"]), **sent)


def every_answer(service: Service, database: Database, document: Json) -> Iterator[tuple[str, Json, httpx.Response]]:
    """Try all operations out in an order in which they can succeed; yields (operation's name, operation, answer)."""
    by_name: Mapping[str, tuple[str, str, Json]] = {
        operation["operationId"]: (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    tried: list[str] = []
    uploads = {"add_model_version": tiny_weights("mine", 5)}

    def trying(*names: str) -> Iterator[tuple[str, Json, httpx.Response]]:
        for name in names:
            path, method, operation = by_name[name]
            upload = uploads.get(name) or archive(["Bag", "Sneaker"])
            tried.append(name)
            answer = try_out(service.client, path, method, operation, upload)
            yield name, operation, answer
            if answer.headers.get("content-type") == "image/png" and name in DRAWN:
                uploads["verify_image"] = answer.content
                sent = answer.request
                headers = {"Accept": "application/json", "Content-Type": sent.headers["content-type"]}
                yield name, operation, service.client.post(sent.url, content=sent.content, headers=headers)

    see_measured(database, "worker")
    yield from trying(*BEFORE_JOBS)
    trainer = Trainer(database)
    trainer.say("6 images of 2 classes; training on cpu", "epoch 1: loss 0.0911")
    trainer.train(10_000, loss=0.0911)
    trainer.draw(10_000)
    trainer.save(10_000, fid_x=31.5)
    trainer.end(broken)
    yield from trying(*AFTER_TRAINING)
    service.client.post("/v1/train-jobs/1/cancel").raise_for_status()  # the stream of an ended job ends
    yield from trying(*WITH_AN_ENDED_JOB)
    service.client.post("/v1/train-jobs/2/cancel").raise_for_status()
    finish(database, 1)
    yield from trying(*AFTER_DRAWING)
    service.client.headers["Authorization"] = f"Bearer {add_key(database, 'admin')[1]}"
    yield from trying(*WITH_A_KEY)
    assert sorted(tried) == sorted(by_name), "an operation is never tried, or tried twice"
