"""The engine's part of a request's trace: spans for its time in the queue and the time of its steps.

The spans are made when the request leaves the engine, from the timings of its last event. Steps have no spans of
their own, because the engine advances many requests in one step.
"""

import time

from opentelemetry import context, trace
from opentelemetry.trace import StatusCode, set_span_in_context

from darkroom.app.engine.request import Event, Failed, Finished, SampleRequest, Sink

NANOSECONDS = 1_000_000_000


def traced(sink: Sink, request: SampleRequest) -> Sink:
    """Return a sink that makes the spans of a request that is submitted now. A refused request has none of them."""
    if not trace.get_current_span().is_recording():
        return sink
    parent, submitted = context.get_current(), time.time_ns()

    def recording(event: Event) -> None:
        if isinstance(event, Finished | Failed):
            _record(event, request, parent, submitted)
        sink(event)

    return recording


def _record(event: Finished | Failed, request: SampleRequest, parent: context.Context, submitted: int) -> None:
    """Make the spans of a request that has left. submitted: nanoseconds since the epoch."""
    tracer, sampling = trace.get_tracer("darkroom"), request.rows[0].sampling
    run = tracer.start_span(
        "engine run",
        parent,
        attributes={
            "darkroom.version": request.version,
            "darkroom.rows": len(request.rows),
            "darkroom.sampler": sampling.sampler,
            "darkroom.steps": sampling.steps,
            "darkroom.guidance": sampling.guidance,
        },
        start_time=submitted,
    )
    if isinstance(event, Failed):
        run.set_status(StatusCode.ERROR, event.reason)
        run.end()
        return
    inside = set_span_in_context(run, parent)
    begun = submitted + int(event.timings.queue_seconds * NANOSECONDS)
    ended = begun + int(event.timings.run_seconds * NANOSECONDS)
    tracer.start_span("engine queue", inside, start_time=submitted).end(begun)
    tracer.start_span("engine steps", inside, start_time=begun).end(ended)
    run.end(ended)
