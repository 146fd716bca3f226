"""The engine's part of a request's trace: its time in the queue and that of its steps.

The spans are made when the request leaves the engine, from the timings that come with its last event: the engine's
thread serves many requests at once, and no step is one request's alone.
"""

import time

from opentelemetry import context, trace
from opentelemetry.trace import StatusCode, set_span_in_context

from darkroom.app.engine.request import Event, Failed, Finished, SampleRequest, Sink

NANOSECONDS = 1_000_000_000


def traced(sink: Sink, request: SampleRequest) -> Sink:
    """The sink of a request that is submitted now. One that the engine refuses has no spans but its answer's."""
    if not trace.get_current_span().is_recording():
        return sink
    parent, submitted = context.get_current(), time.time_ns()

    def told(event: Event) -> None:
        if isinstance(event, Finished | Failed):
            _record(event, request, parent, submitted)
        sink(event)

    return told


def _record(event: Finished | Failed, request: SampleRequest, parent: context.Context, submitted: int) -> None:
    """submitted: nanoseconds since the epoch."""
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
