"""Laws of the service's descriptions: OpenAPI, the documentation page, the Prometheus metrics."""

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.app.served import Service

ANSWERED = [
    ("get", "/v1/models", {}, 503),
    ("get", "/v1/models", {"params": {"limit": 0}}, 422),
    ("get", "/v1/models/{name}", {}, 503),
    ("get", "/readyz", {}, 200),
    ("get", "/healthz", {}, 200),
    ("get", "/metrics", {}, 200),
    *(
        (("post", path, options, status))
        for path in ("/v1/generate", "/generate", "/v1/interpolate")
        for options, status in (
            ({"json": {"class": 0, "seeds": [1, 2]} if "inter" in path else {"class": 0}}, 200),
            ({"json": {}}, 422),
            ({"content": "{", "headers": {"Content-Type": "application/json"}}, 400),
            ({"content": "{}"}, 415),
            ({"content": "x" * 60_000}, 413),
            (
                {
                    "json": {"class": 0, "seeds": [1, 2]} if "inter" in path else {"class": 0},
                    "headers": {"Accept": "x/y"},
                },
                406,
            ),
            (
                {
                    "json": {"class": 0, "seeds": [1, 2], "deadline_seconds": 1e-9}
                    if "inter" in path
                    else {"class": 0, "deadline_seconds": 1e-9}
                },
                503,
            ),
        )
    ),
]


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get("/openapi.json").json()
    return found


@pytest.mark.parametrize(("method", "path", "options", "status"), ANSWERED)
def test_every_status_is_documented(
    service: Service, document: dict[str, Any], method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = service.client.request(method, path.replace("{name}", "tiny"), **options)
    assert answer.status_code == status, answer.text
    described = document["paths"][path][method]["responses"][str(status)]
    media = answer.headers["content-type"].partition(";")[0]
    assert media in described["content"]


def test_sampling_routes_document_the_answers_under_load(document: dict[str, Any]) -> None:
    for path in ("/v1/generate", "/generate", "/v1/interpolate"):
        assert {"429", "500", "503", "504"} <= set(document["paths"][path]["post"]["responses"])


def test_every_reference_in_openapi_exists(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))):
        here: Any = document
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            assert part in here, reference
            here = here[part]


def test_the_json_answer_has_the_documented_members(service: Service, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["GenerateAnswer"]
    assert set(service.generate()) == set(schema["properties"]) == set(schema["required"])


def test_the_documentation_loads_nothing_from_elsewhere(service: Service) -> None:
    page = service.client.get("/docs")
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith("/")
        assert not asset.startswith("//")
        answer = service.client.get(asset)
        assert answer.status_code == 200, asset
        if asset.endswith(".css"):
            assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", answer.text)
            assert "@import" not in answer.text
    assert "https://" not in page.text
    assert "validatorUrl: null" in service.client.get("/docs/start.js").text


def test_prometheus_metrics_parse_and_contain_the_named_series(service: Service) -> None:
    service.generate(steps=5, n=2)
    service.client.post("/generate", json={})
    service.client.post("/generate", json={"class": 0, "deadline_seconds": 1e-9})
    families = {family.name: family for family in text_string_to_metric_families(service.client.get("/metrics").text)}
    kinds = {
        "darkroom_http_requests": "counter",
        "darkroom_http_request_duration_seconds": "histogram",
        "darkroom_refusals": "counter",
        "darkroom_rows_waiting": "gauge",
        "darkroom_rows_running": "gauge",
        "darkroom_queue_wait_seconds": "histogram",
        "darkroom_step_duration_seconds": "histogram",
        "darkroom_batch_occupancy_ratio": "histogram",
        "darkroom_row_steps": "counter",
    }
    assert {name: families[name].type for name in kinds} == kinds
    assert families["darkroom_row_steps"].samples[0].value >= 10
    requests = [sample for sample in families["darkroom_http_requests"].samples if sample.name.endswith("_total")]
    statuses = {(sample.labels["route"], sample.labels["status"]) for sample in requests}
    assert ("/generate", "422") in statuses
    assert any(route.endswith("/generate") and status == "200" for route, status in statuses)
    reasons = {sample.labels["reason"] for sample in families["darkroom_refusals"].samples}
    assert "deadline" in reasons


@pytest.mark.parametrize("number", ["1_0", "%201", "+1", "1.0", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_every_number_in_an_address_is_written_in_digits(
    service: Service, document: dict[str, Any], number: str
) -> None:
    numbers = [
        (method, path, one["name"], one["in"], "requestBody" in operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for one in operation.get("parameters", ())
        if '"integer"' in json.dumps(one["schema"]) and one["in"] in ("path", "query" if method == "get" else "path")
    ]
    assert len(numbers) > 20
    for method, path, name, place, with_body in numbers:
        here = path.replace(f"{{{name}}}", number) if place == "path" else f"{path}?{name}={number}"
        body = {"json": {"keep": True}} if with_body else {}
        answer = service.client.request(method, re.sub(r"\{\w+\}", "1", here), **body)
        assert answer.status_code == 422, (method, here, answer.text)
        assert name in {part for error in answer.json()["errors"] for part in error["pointer"].split("/")}
