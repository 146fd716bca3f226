"""Laws of `darkroom jobs watch` behind a proxy: it outlasts 502, 503 and 504 for a limited time, and misses nothing."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from rich.console import Console

from darkroom.app.cli import follow_job
from darkroom.app.cli.follow_job import JobWatcher
from darkroom.app.cli.service_client import ServiceError

Watch = Callable[..., tuple[int, str]]
JOB = {"status": "queued", "failure": None, "model": "m", "best": None}
"""It was queued again after its end."""


def events(*told: tuple[int | None, str, dict[str, Any]]) -> httpx.Response:
    """An event stream of (number, kind, data), which then breaks."""
    text = ""
    for number, kind, data in told:
        text += "" if number is None else f"id: {number}\n"
        text += f"event: {kind}\ndata: {json.dumps(data)}\n\n"
    return httpx.Response(200, text=text)


def proxy(status: int) -> httpx.Response:
    return httpx.Response(status, text="<html>", headers={"Content-Type": "text/html"})


END = (None, "end", {"status": "succeeded"})


def checkpoint(number: int) -> tuple[int, str, dict[str, Any]]:
    return number, "checkpoint", {"images_seen": 100 * number, "version": number}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Watch a job of a service that gives these answers; returns the exit code and what was told."""

    def run(*answers: httpx.Response) -> tuple[int, str]:
        left = list(answers)
        seen: list[str | None] = []

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/events"):
                seen.append(request.headers.get("Last-Event-ID"))
            return left.pop(0)

        @contextmanager
        def connect(_: str | None) -> Iterator[httpx.Client]:
            with httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer)) as client:
                yield client

        monkeypatch.setattr(follow_job, "connect", connect)
        monkeypatch.setattr(follow_job, "RECONNECT_SECONDS", 0.0)
        said = io.StringIO()
        code = JobWatcher(None, 1, Console(file=said, width=200)).watch()
        assert left == []
        return code, f"{said.getvalue()}{seen}"

    return run


def test_a_proxy_that_does_not_reach_the_service_is_asked_again_and_no_event_is_lost_or_told_twice(
    watch: Watch,
) -> None:
    code, told = watch(
        *map(proxy, (502, 503, 504)),
        events(checkpoint(1)),
        proxy(502),
        events(checkpoint(2), END),
        proxy(504),  # to the question for the job that has ended
        events(END),
        httpx.Response(200, json=JOB),
    )
    assert code == 0
    assert [told.count(f"{images} images: version") for images in (100, 200)] == [1, 1]
    assert told.endswith("[None, None, None, None, '1', '1', '2']")
    assert "HTTP 502 from something that is not Darkroom); trying again for 10 minutes" in told
    assert told.count("trying again") == 3, "once for each outage"


def test_it_goes_on_where_a_service_that_stops_has_ended_the_stream(watch: Watch) -> None:
    code, told = watch(
        events(checkpoint(1), (None, "reconnect", {"detail": "the service is stopping"})),
        httpx.Response(503, json={"detail": "the service is stopping and takes no new requests"}),
        events(checkpoint(2), END),
        httpx.Response(200, json=JOB),
    )
    assert code == 0
    assert [told.count(f"{images} images: version") for images in (100, 200)] == [1, 1]
    assert told.endswith("[None, '1', '1']")


def test_it_gives_up_after_a_while_and_at_once_when_the_service_itself_refuses(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = httpx.Response(503, json={"detail": "the service runs without a database"})
    with pytest.raises(ServiceError, match="without a database"):
        watch(refusal)
    with pytest.raises(ServiceError, match="HTTP 500"):
        watch(events(checkpoint(1)), proxy(500))
    monkeypatch.setattr(follow_job, "PATIENCE_SECONDS", -1.0)
    for status in (502, 503, 504):
        with pytest.raises(ServiceError, match=f"HTTP {status}"):
            watch(events(checkpoint(1)), proxy(status))
