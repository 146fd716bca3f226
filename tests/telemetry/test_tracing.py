"""Laws of traces: off by default, with clear errors for missing packages, and one trace across processes."""

import logging
import subprocess
import sys

import pytest
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from darkroom.telemetry import tracing
from darkroom.telemetry.tracing import TracingMissing, current_traceparent, require_tracing, span
from tests.fixtures.spans import Spans
from tests.telemetry.log_lines import logging_to

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def _not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_opentelemetrys_own_variables_ask_for_traces(
    environment: dict[str, str], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert require_tracing() is asked


def test_what_is_missing_is_said_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_NEEDED", ("opentelemetry.no_such_part.of_it",))
    assert not require_tracing()
    monkeypatch.setenv(ENDPOINT, "http://collector:4318")
    with pytest.raises(TracingMissing, match=r"pip install -c constraints.txt -e '\.\[tracing\]'"):
        require_tracing()


def test_without_the_extra_everything_runs() -> None:
    program = """
import sys
sys.modules["opentelemetry.sdk"] = sys.modules["opentelemetry.exporter"] = None
from darkroom.telemetry.tracing import current_traceparent, flush_spans, set_up_tracing, span
set_up_tracing("api")
with span("work", {"a": 1}, parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
    print(current_traceparent())
with span("work", {}):
    print(current_traceparent())
flush_spans()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [f"00-{TRACE}-{PARENT}-01", "None"]  # passes on the trace of another process


def test_a_span_goes_on_with_the_trace_that_it_is_given(spans: Spans) -> None:
    facts = {"darkroom.job_id": 7, "darkroom.request_id": None}
    with span("outer", facts, parent=f"00-{TRACE}-{PARENT}-01", kind=SpanKind.CONSUMER):
        given = current_traceparent()
        with span("inner", {}):
            pass
    outer, inner = spans.one("outer"), spans.one("inner")
    assert outer.context is not None
    assert format_trace_id(outer.context.trace_id) == TRACE
    assert outer.parent is not None
    assert format_span_id(outer.parent.span_id) == PARENT
    assert given == f"00-{TRACE}-{format_span_id(outer.context.span_id)}-01"
    assert dict(outer.attributes or {}) == {"darkroom.job_id": 7}
    assert inner.parent == outer.context
    assert current_traceparent() is None


def test_a_damaged_parent_begins_a_trace_of_its_own(spans: Spans) -> None:
    with span("alone", {}, parent="nonsense"):
        pass
    assert spans.one("alone").parent is None


def test_a_fault_is_told_without_its_secrets(spans: Spans) -> None:
    with pytest.raises(RuntimeError), span("broken", {}):
        raise RuntimeError("cannot reach postgresql://me:word@host/db")
    broken = spans.one("broken")
    assert broken.status.status_code is StatusCode.ERROR
    assert broken.status.description == "RuntimeError: cannot reach postgresql://me:***@host/db"
    assert not broken.events


def test_lines_have_the_ids_of_the_span_that_they_were_written_in(spans: Spans) -> None:
    with logging_to() as written:
        with span("outer", {}):
            logging.getLogger("some.module").info("inside")
        logging.getLogger("some.module").info("outside")
    inside, outside = written.parsed()
    made = spans.one("outer").context
    assert made is not None
    assert inside["trace_id"] == format_trace_id(made.trace_id)
    assert inside["span_id"] == format_span_id(made.span_id)
    assert "trace_id" not in outside
