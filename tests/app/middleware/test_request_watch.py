"""Laws of the API's log: one line for each answer, with the request's id and its route, and without secrets."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from darkroom.app.access.token import new_token
from darkroom.app.versions.catalog import Catalog
from darkroom.store.database import Database
from tests.app.keyed import add_key
from tests.app.served import Service, serving
from tests.app.test_refusals import assert_problem
from tests.processes import wait_until
from tests.telemetry.log_lines import Line, Written, logging_to


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """The service's log lines of all levels during a test."""
    for client in ("httpx", "httpcore"):
        monkeypatch.setattr(logging.getLogger(client), "propagate", False)
    with logging_to(log_level="DEBUG") as stream:
        yield stream


def _of(written: Written, request_id: str, count: int = 1) -> list[Line]:
    """Wait for `count` log lines of a request; the last one may come after the answer."""

    def found() -> list[Line]:
        return [line for line in written.parsed() if line.get("request_id") == request_id]

    wait_until(lambda: len(found()) >= count, f"{count} lines of {request_id}")
    return found()


def _called(name: str) -> dict[str, str]:
    return {"X-Request-ID": name}


def test_each_answer_has_one_log_line(service: Service, written: Written) -> None:
    service.client.get("/v1/models", headers=_called("list"))
    (line,) = _of(written, "list")
    seconds = line.pop("seconds")
    assert isinstance(seconds, float)
    del line["time"]
    assert line == {
        "level": "INFO",
        "logger": "darkroom.app.middleware.request_watch",
        "message": f"GET /v1/models {line['status']}",
        "process": "api",
        "request_id": "list",
        "method": "GET",
        "route": "/v1/models",
        "status": line["status"],
    }


@pytest.mark.parametrize("route", ["/generate", "/v1/generate"])
def test_the_logged_route_has_the_prefix_that_the_client_used(service: Service, written: Written, route: str) -> None:
    assert service.client.post(route, json={"class": 0, "steps": 1}, headers=_called("draw")).status_code == 200
    assert [line["route"] for line in _of(written, "draw")] == [route]
    series = f'darkroom_http_requests_total{{method="POST",route="{route}",status="200"}}'
    assert series in service.client.get("/metrics").text


def test_only_the_route_of_an_address_is_logged(service: Service, written: Written) -> None:
    service.client.get("/nothing/of/mine?with=private", headers=_called("lost"))
    service.client.get("/v1/train-jobs/12?with=private", headers=_called("job"))
    assert [(line["route"], line.get("job_id")) for line in _of(written, "lost")] == [("unmatched", None)]
    assert [(line["route"], line.get("job_id")) for line in _of(written, "job")] == [("/v1/train-jobs/{job_id}", 12)]
    assert "private" not in written.getvalue()
    assert "mine" not in written.getvalue()


def test_probes_are_logged_at_the_level_debug(service: Service, written: Written) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        service.client.get(path, headers=_called("probe"))
    assert [line["level"] for line in _of(written, "probe", 3)] == ["DEBUG"] * 3


def test_an_unexpected_error_has_one_traceback_and_an_answer_with_the_request_id(
    service: Service, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a fault of the service")

    monkeypatch.setattr(Catalog, "find", broken)
    answer = service.client.post("/generate", json={"class": 0}, headers=_called("broken"))
    assert "fault" not in answer.text
    assert_problem(answer, 500)
    assert answer.headers["x-request-id"] == "broken"
    assert "content-security-policy" in answer.headers
    fault, answered = _of(written, "broken", 2)
    assert fault["level"] == "ERROR"
    assert fault["exception"].endswith("RuntimeError: a fault of the service")
    assert answered["status"] == 500
    assert written.getvalue().count("Traceback") == 1


def test_no_log_line_contains_a_key(
    weights: Path, database: Database, database_url: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, good = add_key(database, "generate")
    unknown = new_token().token

    async def careless(*_: Any) -> None:
        raise RuntimeError(f"{good} is in the text of an error")

    with serving(weights, default_model="tiny", database_url=database_url) as service:
        for token in (good, unknown):
            for path in ("/v1/recipes", f"/v1/models/{token}", f"/v1/models?key={token}"):
                service.client.get(path, headers={"Authorization": f"Bearer {token}"} | _called("asked"))
        monkeypatch.setattr(Catalog, "find", careless)
        headers = {"Authorization": f"Bearer {good}"} | _called("careless")
        assert_problem(service.client.post("/generate", json={"class": 0}, headers=headers), 500)
    assert {line["status"] for line in _of(written, "asked", 6)} >= {401, 403}
    assert "is in the text of an error" in _of(written, "careless")[0]["exception"]
    for token in (good, unknown):
        assert token.split("_", 2)[2] not in written.getvalue()
        assert token not in written.getvalue()
