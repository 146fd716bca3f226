"""Laws of a job's events: each watcher gets each event once and in order, even when its connection breaks."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.database import Database
from darkroom.store.job_repository import events_after, request_cancel, stop, submit_job
from darkroom.store.migrations import upgrade
from tests import warm
from tests.app.served import Service, serving
from tests.app.test_refusals import assert_problem
from tests.app.train_jobs.test_routes import submit
from tests.app.training import add_dataset, broken, checkpoint, claim, end, metrics, serving_jobs
from tests.processes import PATIENCE_SECONDS, free_port, wait_until


@pytest.fixture
def jobs(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving_jobs(tmp_path, database_url) as service:
        yield service


@dataclass(frozen=True)
class Event:
    """One event. number: its id, None without one."""

    kind: str
    data: dict[str, Any]
    number: int | None


def parse(lines: Iterator[str]) -> Iterator[Event | str]:
    """Yield events, and comments as text, as they arrive."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line.startswith(":"):
            yield line[2:]
        elif line:
            fields[name] = value
        elif "event" in fields:
            yield Event(fields["event"], json.loads(fields["data"]), int(fields["id"]) if "id" in fields else None)
            fields = {}


def watch(service: Service, job_id: int, **options: Any) -> list[Event]:
    """Read the whole stream."""
    with service.client.stream("GET", f"/v1/train-jobs/{job_id}/events", **options) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [event for event in parse(answer.iter_lines()) if isinstance(event, Event)]


def stored(database: Database, job_id: int) -> list[tuple[int | None, str]]:
    with database.session() as session:
        return [(event.number, event.kind) for event in events_after(session, job_id, 0)]


def numbered(events: list[Event]) -> list[tuple[int | None, str]]:
    return [(event.number, event.kind) for event in events if event.number is not None]


def test_head_of_a_stream_does_not_watch(jobs: Service, database: Database) -> None:
    undocumented = Service(jobs.url)
    with undocumented.client as client:
        answer = client.head(f"/v1/train-jobs/{submit(jobs)['id']}/events")
        assert answer.headers["content-type"].startswith("text/event-stream")
        alone = 1.0  # this request for the metrics
        wait_until(lambda: undocumented.gauge("darkroom_http_requests_in_flight") == alone, "nobody watches")


def test_a_finished_job_s_stream_sends_every_event_and_ends(jobs: Service, database: Database) -> None:
    job = submit(jobs, overrides={"training.total_images": 500})["id"]
    lease = claim(database)
    metrics(database, lease, 250, loss=0.25)
    checkpoint(database, lease, 500, {"fid-x": 3.0})
    end(database, lease)
    events = watch(jobs, job)
    assert numbered(events) == stored(database, job)
    assert events[0].data["status"] == "queued"
    assert events[-1] == Event("end", {"status": "succeeded"}, None)
    assert events[-2].kind == "progress"
    assert (events[-2].data["images_done"], events[-2].data["loss"]) == (500, 0.25)
    saved = next(event for event in events if event.kind == "checkpoint")
    assert (saved.data["images_seen"], saved.data["version"]) == (500, 1)

    last = len(stored(database, job))
    assert numbered(watch(jobs, job, params={"after": last - 2})) == stored(database, job)[-2:]
    assert numbered(watch(jobs, job, headers={"Last-Event-ID": str(last)})) == []
    both = {"headers": {"Last-Event-ID": str(last - 1)}, "params": {"after": 0}}
    assert numbered(watch(jobs, job, **both)) == stored(database, job)[-1:]
    for bad in ("x", "-1", "2147483648"):
        for options in ({"headers": {"Last-Event-ID": bad}}, {"params": {"after": bad}}):
            assert_problem(jobs.client.get(f"/v1/train-jobs/{job}/events", **options), 422)


def test_progress_is_sent_when_it_changes(jobs: Service, database: Database) -> None:
    job = submit(jobs, overrides={"training.total_images": 500})["id"]
    lease = claim(database)
    with jobs.client.stream("GET", f"/v1/train-jobs/{job}/events") as answer:
        events = (event for event in parse(answer.iter_lines()) if isinstance(event, Event))
        progress = (event for event in events if event.kind == "progress")
        assert next(progress).data["images_done"] == 0
        for images in (100, 200):
            metrics(database, lease, images, loss=images / 1000, speed=10.0)
            told = next(progress).data
            assert (told["images_done"], told["loss"]) == (images, images / 1000)
            assert told["eta_seconds"] == (500 - images) / 10
        end(database, lease, broken)
        assert [event.data["status"] for event in events if event.kind == "end"] == ["failed"]


def test_a_watcher_that_is_cut_off_again_and_again_sees_each_event_once(jobs: Service, database: Database) -> None:
    job = submit(jobs, overrides={"training.total_images": 10_000})["id"]
    lease = claim(database)
    over = threading.Event()

    def train() -> None:
        for images in range(100, 1600, 100):
            checkpoint(database, lease, images)
            metrics(database, lease, images + 10)
        with database.session() as session:
            request_cancel(session, job)
        end(database, lease, stop)
        over.set()

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train)
        seen: list[tuple[int | None, str]] = []
        ended, connections = False, 0
        while not ended:
            headers = {"Last-Event-ID": str(seen[-1][0])} if seen else {}
            connections += 1
            with jobs.client.stream("GET", f"/v1/train-jobs/{job}/events", headers=headers) as answer:
                few = 3
                for event in parse(answer.iter_lines()):
                    if isinstance(event, Event) and event.number is not None:
                        seen.append((event.number, event.kind))
                        few -= 1
                    ended = isinstance(event, Event) and event.kind == "end"
                    if few == 0 or ended:
                        break  # close the connection
        training.result()
    assert seen == stored(database, job)
    assert connections > 3


def test_many_watchers_take_no_connection_from_others(jobs: Service, database: Database) -> None:
    """Forty watchers share a pool of at most ten connections."""
    job = submit(jobs)["id"]
    lease = claim(database)
    watching = threading.Semaphore(0)

    def watcher() -> list[tuple[int | None, str]]:
        with (
            httpx.Client(base_url=jobs.url, timeout=PATIENCE_SECONDS, trust_env=False) as client,
            client.stream("GET", f"/v1/train-jobs/{job}/events") as answer,
        ):
            found = []
            for event in parse(answer.iter_lines()):
                if isinstance(event, Event):
                    if event.kind == "progress":
                        watching.release()
                    found.append(event)
        return numbered(found)

    with ThreadPoolExecutor(40) as pool:
        watchers = [pool.submit(watcher) for _ in range(40)]
        for _ in watchers:
            assert watching.acquire(timeout=PATIENCE_SECONDS)
        for _ in range(20):
            assert jobs.client.get("/v1/train-jobs").status_code == 200
        end(database, lease)
        expected = stored(database, job)
        assert all(one.result() == expected for one in watchers)


def test_the_stream_outlives_the_database_s_absence(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    server = PrivatePostgres(tmp_path / "own")
    server.start()
    try:
        upgrade(server.url)
        database = Database(server.url)
        add_dataset(database)
        with serving(tmp_path / "none", wait_until_ready=False, database_url=server.url) as service:
            job = submit(service)["id"]
            lease = claim(database)
            found: list[Event | str] = []

            def read() -> None:
                with service.client.stream("GET", f"/v1/train-jobs/{job}/events") as answer:
                    found.extend(parse(answer.iter_lines()))

            # extend appends each item as it arrives, so that the test can look at the list meanwhile
            with ThreadPoolExecutor(1) as pool:
                watching = pool.submit(read)
                wait_until(lambda: len(found) > 2, "events told")
                server.stop()
                wait_until(
                    lambda: any(isinstance(one, str) and "cannot be reached" in one for one in found),
                    "the absence told",
                )
                server.start()
                database.dispose()
                end(database, lease)
                watching.result(PATIENCE_SECONDS)
            events = [one for one in found if isinstance(one, Event)]
            assert numbered(events) == stored(database, job)
            assert events[-1].kind == "end"
        database.dispose()
    finally:
        server.stop()


def test_a_watcher_does_not_delay_the_service_s_stop(tmp_path: Path, database_url: str, database: Database) -> None:
    """The server waits for open answers; it stops in time because the stream ends."""
    add_dataset(database)
    with database.session() as session:
        job = submit_job(session, kind="train", model_name="m", configuration={}, total_images=10).id
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "darkroom.app.main:application", "--port", str(port)]
    environment = os.environ | {"DATABASE_URL": database_url, "DARKROOM_WEIGHTS_FOLDER": str(tmp_path)}
    with warm.Popen([*command, "--timeout-graceful-shutdown", "100000"], env=environment) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(url), "the service")
            client = httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False)
            with client, client.stream("GET", f"/v1/train-jobs/{job}/events") as answer:
                events = parse(answer.iter_lines())
                assert isinstance(next(events), Event)
                server.send_signal(signal.SIGTERM)
                assert [one for one in events if isinstance(one, Event)][-1].kind == "reconnect"
            assert server.wait(PATIENCE_SECONDS) in (0, -signal.SIGTERM)
        finally:
            server.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False
