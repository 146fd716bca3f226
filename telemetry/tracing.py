"""Traces (OpenTelemetry), off until the operator says where spans go, by OpenTelemetry's own variables.

The code asks OpenTelemetry's API for spans. They do nothing until `set_up_tracing` installs the SDK (extra `tracing`).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from darkroom.telemetry.redaction import redacted

TRACEPARENT = "TRACEPARENT"
"""The environment variable that tells a child process which span it belongs to."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class TracingMissing(RuntimeError):
    """Traces are wanted, and the SDK is not installed."""


def require_tracing() -> bool:
    """True when traces are wanted; raises TracingMissing when they cannot be made."""
    endpoint = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    if endpoint is None or off:
        return False
    if not all(_is_installed(name) for name in _NEEDED):
        raise TracingMissing(
            f"{endpoint} asks for traces, which need the extra `tracing`: "
            "run `.venv/bin/python -m pip install -c constraints.txt -e '.[tracing]'` in Darkroom's folder, or unset it"
        )
    return True


def set_up_tracing(process: str) -> None:
    """Send this process's spans from now on, if traces are wanted; raises TracingMissing.

    process: the service is called darkroom-PROCESS unless OTEL_SERVICE_NAME names it.
    """
    if not require_tracing():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except (ImportError, OSError, RuntimeError) as error:
        raise TracingMissing(f"the extra `tracing` is installed but broken ({error}): install it again") from error

    name = os.environ.get("OTEL_SERVICE_NAME", f"darkroom-{process}")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush_spans() -> None:
    """Send the spans that wait, before a process ends. Takes at most OTEL_EXPORTER_OTLP_TIMEOUT."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush()


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, AttributeValue | None],
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[None]:
    """Make a span of the block. An attribute that is None is left out.

    parent: a traceparent; by default the current span. An exception marks the span as failed; its text goes in without
    secrets.
    """
    given = {key: value for key, value in attributes.items() if value is not None}
    context = extract({"traceparent": parent}) if parent is not None else None
    tracer = trace.get_tracer("darkroom")
    with tracer.start_as_current_span(
        name, context, kind, given, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield
        except Exception as error:
            made.set_status(StatusCode.ERROR, redacted(f"{type(error).__name__}: {error}"))
            raise


def current_traceparent() -> str | None:
    """The current span as a traceparent (W3C Trace Context), for another process; None without a span."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor in any span around it
        return False
