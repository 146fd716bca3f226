"""Laws of the OpenAPI document: it is valid, every operation has a good name and examples, and all examples work."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from darkroom.app.main import create_app
from darkroom.app.settings import Settings
from darkroom.store.database import Database
from tests.app.description.tried import every_answer, filled_in, serving_examples

Json = dict[str, Any]
VERBS = (
    "add cancel check create delete download generate get interpolate list plan replace resume retry revoke set share"
)
NAME = re.compile(rf"({'|'.join([*VERBS.split(), 'update', 'verify', 'watch'])})(_[a-z]+)+")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    return create_app(Settings(weights_folder=tmp_path_factory.mktemp("none"), device="cpu")).openapi()


def _operations(document: Json) -> dict[str, Json]:
    listed = [one for operations in document["paths"].values() for one in operations.values()]
    named = {one["operationId"]: one for one in listed}
    assert len(named) == len(listed)
    return named


def _successes(operation: Json) -> list[tuple[str, Json]]:
    answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    return [found for answer in answers for found in answer.get("content", {}).items()]


def _faults(document: Json, schema: Json, value: Any) -> list[str]:
    """Return where a value does not fit a schema of the document."""
    validator = Draft202012Validator(schema | {"components": document["components"]})
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]


def test_the_document_is_valid_openapi_3_1(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_operation_has_a_name_of_a_verb_and_a_thing(document: Json) -> None:
    operations = _operations(document)
    assert [name for name in operations if not NAME.fullmatch(name)] == []
    assert {"list_models", "create_generate_job", "generate_images"} <= operations.keys()


def test_every_operation_has_examples_that_fit_its_schemas(document: Json) -> None:
    for name, operation in _operations(document).items():
        filled_in(operation)
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            assert _faults(document, content["schema"], content["examples"]["example"]["value"]) == [], name
        for media, content in _successes(operation):
            if media == "application/json" or media.startswith("text/"):
                example = content["examples"]["example"]
                if "$ref" in example:
                    example = document["components"]["examples"][example["$ref"].rpartition("/")[2]]
                assert _faults(document, content["schema"], example["value"]) == [], name
            else:
                assert content["schema"] == {"type": "string", "format": "binary"}, (name, media)


def test_layouts_of_streams_and_archives_are_described(document: Json) -> None:
    operations = _operations(document)
    for name in ("generate_images", "interpolate_images"):
        text = operations[name]["responses"]["200"]["description"]
        for part in ("manifest.json", "`labels`", "uint8", "`done`", "`preview`"):
            assert part in text
    assert "`labels`" in operations["download_generate_job_result"]["responses"]["200"]["description"]
    assert "`lease_lapsed`" in operations["watch_train_job"]["responses"]["200"]["description"]


def test_what_try_it_out_fills_in_works(tmp_path: Path, database_url: str, database: Database) -> None:
    """Every operation, with the values that /docs fills in: all succeed, and the answers fit their schemas."""
    with serving_examples(tmp_path, database_url) as service:
        document = service.client.get("/openapi.json").json()
        for name, operation, answer in every_answer(service, database, document):
            assert answer.is_success, (name, answer.text)
            described = operation["responses"][str(answer.status_code)].get("content", {})
            if answer.status_code == 204:
                assert described == {}
                continue
            media = answer.headers["content-type"].partition(";")[0]
            if media == "application/json":
                assert _faults(document, described[media]["schema"], answer.json()) == [], name
            else:
                assert media in described, name
