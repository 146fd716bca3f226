"""Writes the names of operations, examples and layouts into the OpenAPI document that FastAPI has made."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from darkroom.app.description import layouts
from darkroom.app.description.operations import CREATED, OPERATIONS, links
from darkroom.app.http.problems import documented

EXAMPLES = "examples.json"
"""An example of each schema of an answer, by the schema's name. `python -m tests.app.description.record` writes it."""

_JSON = "application/json"
_PROBLEM = {
    "type": "/docs/errors#invalid",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "/n: Input should be greater than or equal to 1",
    "errors": [{"pointer": "/n", "detail": "Input should be greater than or equal to 1"}],
}
_TEXTS = {
    "generate_images": layouts.IMAGE_EVENTS,
    "generate_images_unversioned": layouts.IMAGE_EVENTS,
    "interpolate_images": layouts.IMAGE_EVENTS,
    "watch_train_job": layouts.JOB_EVENTS,
    **dict.fromkeys(("create_dataset", "replace_dataset"), layouts.REGISTERED_EVENTS),
    "check_dataset": layouts.CHECKED_EVENTS,
    "list_train_job_log_lines": layouts.LOG_TEXT,
    "get_prometheus_metrics": layouts.PROMETHEUS,
}
"""Examples of answers that are texts, by operation."""
_LAYOUTS = {
    **dict.fromkeys(("generate_images", "generate_images_unversioned", "interpolate_images"), layouts.IMAGES),
    "download_generate_job_result": layouts.RESULT,
    "watch_train_job": layouts.JOB_EVENTS_TEXT,
    **dict.fromkeys(("create_dataset", "replace_dataset"), layouts.REGISTERED),
    "check_dataset": layouts.CHECKED,
}
"""What an answer's bytes mean, by operation."""


def describe(document: dict[str, Any]) -> None:
    """Complete the document. Every operation in it must be in OPERATIONS, or this raises KeyError."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            known = OPERATIONS[method, path]
            operation["operationId"] = known.name
            operation["summary"] = known.name.replace("_", " ").capitalize()
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "header" and parameter["schema"].get("type") == "array":
                    parameter["schema"] = {"type": "string"}  # several lines mean the same as one with commas
                if parameter["name"] in known.parameters:
                    parameter["example"] = known.parameters[parameter["name"]]
            if known.body is not None:
                operation["requestBody"]["content"][_JSON]["examples"] = {"example": {"value": known.body}}
            if "requestBody" in operation:
                _describe_body(document, known.name, operation)
            if known.name in _LAYOUTS:
                operation["responses"]["200"]["description"] = _LAYOUTS[known.name]
            if known.name in CREATED:
                created = next(status for status in ("201", "202") if status in operation["responses"])
                operation["responses"][created]["links"] = links(known.name)
            for media, content in _successes(operation):
                schema = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
                if schema:
                    content["examples"] = {"example": {"$ref": f"#/components/examples/{schema}"}}
                elif media.startswith("text/"):
                    content["schema"] = {"type": "string"}
                    content["examples"] = {"example": {"value": _TEXTS[known.name]}}
    values = json.loads(files(__package__).joinpath(EXAMPLES).read_text(encoding="utf-8"))
    components = document["components"]
    components["examples"] = {name: {"value": value} for name, value in values.items()}
    components["schemas"]["ProblemDetails"]["examples"] = [_PROBLEM]


def _describe_body(document: dict[str, Any], name: str, operation: dict[str, Any]) -> None:
    """Add the refusals of `app.middleware.body_limit`, and make a component of each body that the route describes."""
    for status, answer in documented(408, 413, 415).items():
        operation["responses"].setdefault(str(status), answer)
    for media, content in operation["requestBody"]["content"].items():
        if "properties" in content["schema"]:  # generators of clients need a name for it
            kind = "Body" if media == _JSON else "Form"
            component = f"{name.title().replace('_', '')}{kind}"
            document["components"]["schemas"][component] = content["schema"]
            content["schema"] = {"$ref": f"#/components/schemas/{component}"}


def _successes(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (media type, its description) of an operation's answers that are no errors."""
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            yield from answer.get("content", {}).items()
