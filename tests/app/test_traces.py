"""Laws of traces: a request continues the client's trace, contains the engine's spans, and reaches its job."""

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from darkroom.store.database import Database
from darkroom.store.tables import Job
from tests.app.served import Service, serving
from tests.app.training import add_dataset, configuration
from tests.fixtures.spans import Spans
from tests.processes import wait_until

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = {"traceparent": f"00-{TRACE}-{CLIENT}-01", "X-Request-ID": "drawn"}


def _ended(spans: Spans, name: str) -> ReadableSpan:
    """Wait for a span, which may end after its answer arrives."""
    wait_until(lambda: bool(spans.named(name)), f"the span {name}")
    return spans.one(name)


@pytest.mark.parametrize("route", ["/generate", "/v1/generate"])
def test_a_request_has_spans_for_the_engines_queue_and_steps(service: Service, spans: Spans, route: str) -> None:
    body = {"class": 0, "n": 2, "steps": 3, "sampler": "ddim"}
    assert service.client.post(route, json=body, headers=TRACED).status_code == 200
    request = _ended(spans, f"POST {route}")
    run, queue, steps = (spans.one(f"engine {part}") for part in ("run", "queue", "steps"))
    assert request.context is not None
    assert format_trace_id(request.context.trace_id) == TRACE
    assert request.parent is not None
    assert format_span_id(request.parent.span_id) == CLIENT
    assert (request.attributes or {})["darkroom.request_id"] == "drawn"
    assert run.parent == request.context
    assert queue.parent == steps.parent == run.context
    facts = run.attributes or {}
    assert (facts["darkroom.rows"], facts["darkroom.steps"], facts["darkroom.sampler"]) == (2, 3, "ddim")
    assert run.start_time == queue.start_time
    assert queue.end_time == steps.start_time
    assert steps.end_time == run.end_time


def test_a_request_that_fails_in_the_engine_has_an_error_span(service: Service, spans: Spans) -> None:
    body = {"class": 0, "n": 32, "steps": 500}
    with service.client.stream("POST", "/generate", json=body | {"stream": True}) as answer:
        next(answer.iter_lines())
    run = _ended(spans, "engine run")
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, "cancelled")
    assert not spans.named("engine steps")


def test_refusals_and_probes_have_no_engine_span(service: Service, spans: Spans) -> None:
    assert service.client.get("/healthz").status_code == 200
    assert service.client.post("/generate", json={}).status_code == 422
    _ended(spans, "POST /generate")
    assert not spans.named("engine run")
    assert not spans.named("GET /healthz")


def test_a_job_continues_the_trace_of_the_request_that_queued_it(
    weights: Path, database: Database, database_url: str, spans: Spans
) -> None:
    add_dataset(database)
    body = {"recipe": configuration(), "dataset": "shapes", "model": "traced"}
    with serving(weights, default_model="tiny", database_url=database_url) as service:
        job_id = service.client.post("/v1/train-jobs", json=body, headers=TRACED).raise_for_status().json()["id"]
        service.client.post(f"/v1/train-jobs/{job_id}/cancel")
        first = _job(database, job_id)
        made = _ended(spans, "POST /v1/train-jobs").context
        assert made is not None
        assert (first.request_id, first.traceparent) == ("drawn", f"00-{TRACE}-{format_span_id(made.span_id)}-01")
        again = service.client.post(f"/v1/train-jobs/{job_id}/resume", headers={"X-Request-ID": "again"})
        assert again.raise_for_status().json()["request_id"] == "again"
        second = _job(database, job_id)
    made = _ended(spans, "POST /v1/train-jobs/{job_id}/resume").context
    assert made is not None
    assert str(second.traceparent).startswith(f"00-{format_trace_id(made.trace_id)}-{format_span_id(made.span_id)}-")


def _job(database: Database, job_id: int) -> Job:
    with database.session() as session:
        return session.get_one(Job, job_id)
