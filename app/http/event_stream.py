"""Writes server-sent events, and has the headers that keep proxies from storing or buffering a stream."""

import json
from collections.abc import Mapping
from typing import Any

EVENT_STREAM = "text/event-stream"
KEEPALIVE_SECONDS = 15.0
KEEPALIVE = b": keepalive\n\n"
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def sse(kind: str, data: Mapping[str, Any], number: int | None = None) -> bytes:
    """Return one event. number: its id; a client that connects again sends it as Last-Event-ID."""
    numbered = "" if number is None else f"id: {number}\n"
    return f"{numbered}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def comment(text: str) -> bytes:
    """Return a line that clients ignore. text: without line breaks."""
    return f": {text}\n\n".encode()
