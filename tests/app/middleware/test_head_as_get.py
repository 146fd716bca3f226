"""Laws of HEAD: it answers like GET without the body, and only routes with GET have it."""

import re

import httpx
import pytest

from tests.app.served import Service
from tests.app.test_refusals import assert_problem

UNLIKE = ("date", "x-request-id", "content-length")  # the length of /metrics changes between requests


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json", "/v1/models", "/console/src/main.js", "/none"],
)
def test_head_is_get_without_its_body(service: Service, path: str) -> None:
    got, asked = service.client.get(path), service.client.head(path)
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    assert _headers(asked) == _headers(got)
    assert ("content-length" in asked.headers) == ("content-length" in got.headers)


def test_every_documented_get_has_head(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    asked = [re.sub(r"\{\w+\}", "1", path) for path, operations in paths.items() if "get" in operations]
    assert len(asked) > 25
    for path in asked:
        assert service.client.head(path).status_code == service.client.get(path).status_code != 405, path


def _headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in UNLIKE}


def test_the_connection_stays_usable(service: Service) -> None:
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        for _ in range(3):
            assert client.head("/healthz").status_code == 200
            assert client.get("/healthz").json() == {"status": "alive"}


def test_a_route_without_get_has_no_head(service: Service) -> None:
    answer = service.client.head("/v1/generate")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_prometheus_metrics_count_head_and_openapi_has_only_get(service: Service) -> None:
    service.client.head("/readyz")
    assert (
        'darkroom_http_requests_total{method="HEAD",route="/readyz",status="200"}'
        in service.client.get("/metrics").text
    )
    paths = service.client.get("/openapi.json").json()["paths"].values()
    assert not any("head" in operations for operations in paths)
    assert_problem(service.client.get("/none"), 404)
