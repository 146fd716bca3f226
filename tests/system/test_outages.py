"""Laws of outages: work that does not need the missing server continues; nothing is lost or done twice."""

import http.client
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from sqlalchemy import func, text, update

from darkroom.app.embedded.redis import PrivateRedis
from darkroom.model.config import Recipe
from darkroom.store.clock import seconds
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_repository import events_after, list_jobs
from darkroom.store.tables import Job, Worker
from tests.app.served import Service, weights_folder
from tests.app.test_refusals import assert_problem
from tests.app.train_jobs.test_events import Event, numbered, parse, stored, watch
from tests.processes import PATIENCE_SECONDS, family_of, living, wait_until
from tests.system.cluster import Cluster, away, cluster, full, only_reading, read_only, signal_all
from tests.system.faults import Report, watching
from tests.system.test_jobs import last_weights, long_recipe, undisturbed

Json = dict[str, Any]

MANY = 40
"""More than the threads and connections of the service."""
DUE_SECONDS = 2.0
"""Until a job that waits may be claimed; a lock on its table takes less."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_folder(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with one worker. Its leases last longer than the outages of these tests."""
    with cluster(tmp_path_factory.mktemp("cluster"), "first", DARKROOM_LEASE_SECONDS="300") as running:
        running.register()
        yield running


@pytest.fixture(scope="module")
def service(running: Cluster, weights: Path) -> Iterator[Service]:
    service = Service(running.start_api(weights))
    with service.client:
        yield service


@pytest.fixture(scope="module")
def second(running: Cluster) -> None:
    """A second worker."""
    running.start_worker("second")


def short_recipe() -> Recipe:
    return long_recipe(training__total_images=800)


def request(model: str, recipe: Recipe, **fields: Any) -> Json:
    """The body of POST /train-jobs."""
    described = recipe.model_dump(mode="json", exclude={"name", "dataset"})
    return {"recipe": described, "dataset": "data", "model": model} | fields


def submit(service: Service, model: str, recipe: Recipe, **fields: Any) -> int:
    answer = service.client.post("/train-jobs", json=request(model, recipe, **fields))
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def starts(running: Cluster, job_id: int) -> int:
    """Return how many attempts have started."""
    with running.database.session() as session:
        events = events_after(session, job_id, 0)
    return sum(event.kind == "status" and event.data["status"] == "running" for event in events)


def assert_ran_once(running: Cluster, job_id: int) -> None:
    done = running.wait_for(job_id, "succeeded", "failed", "cancelled")
    assert (done.status, done.attempt, done.failures) == ("succeeded", 1, 0), done.failure
    assert starts(running, job_id) == 1


def hint_is_taken(running: Cluster) -> bool:
    """Send a hint; returns true when a worker has taken all hints."""
    if not running.waiting_hints():
        running.send_hints(1)
        time.sleep(0.5)
    return running.waiting_hints() == 0


def expected_weights(job: Job) -> str:
    return undisturbed(TrainWork.model_validate(job.configuration).recipe)


def watch_until_cut_off(service: Service, job_id: int, on_event: Callable[[Event], None]) -> list[Event]:
    """Watch a job until the connection breaks; returns the events before."""
    seen: list[Event] = []
    try:
        with service.client.stream("GET", f"/v1/train-jobs/{job_id}/events") as answer:
            for event in parse(answer.iter_lines()):
                if isinstance(event, Event):
                    seen.append(event)
                    on_event(event)
    except httpx.TransportError:
        return seen
    raise AssertionError("the stream came to its end")


def waiting_for_a_lock(running: Cluster, statement: str) -> int:
    """Return the number of connections that wait for a lock in a statement like `statement` (a LIKE pattern)."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :statement")
    with running.database.session() as session:
        return session.scalar(query, {"statement": statement}) or 0


def cpu_ticks(pids: set[int]) -> int:
    """Return the processor time of the processes, in clock ticks."""
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(field[11]) + int(field[12]) for field in fields)


@pytest.mark.parametrize("trouble", [away, full, read_only])
def test_without_a_redis_that_takes_anything_jobs_are_accepted_and_run(
    running: Cluster, service: Service, trouble: Callable[[PrivateRedis], AbstractContextManager[None]]
) -> None:
    before = service.images(seed=1)
    processes = list(running.processes.values())
    with trouble(running.redis):
        job_id = submit(service, f"without-redis-{trouble.__name__}", short_recipe())
        assert np.array_equal(service.images(seed=1), before)
        for path in ("/healthz", "/readyz", f"/v1/train-jobs/{job_id}", "/v1/models"):
            assert service.client.get(path).status_code == 200, path
        assert_ran_once(running, job_id)
    wait_until(lambda: hint_is_taken(running), "the worker has found Redis again")
    assert [process.exit_code() for process in processes] == [None] * len(processes)


def test_with_a_full_redis_lapsed_jobs_come_back(tmp_path: Path) -> None:
    with cluster(tmp_path, "first") as running, full(running.redis):
        job_id = running.submit(long_recipe(), running.register())
        wait_until(lambda: running.job(job_id).images_done > 0, "some progress")
        running.kill("first")
        running.start_worker("second")  # Redis is full when it starts
        done = running.wait_for(job_id, "succeeded", "failed")
        assert (done.status, done.attempt) == ("succeeded", 2), done.failure
        assert [process.exit_code() for process in running.processes.values()] == [None, None]


def test_a_job_whose_message_was_lost_runs(running: Cluster, service: Service) -> None:
    running.end("first")
    before = submit(service, "lost-message", short_recipe())
    wait_until(lambda: running.waiting_hints() > 0, "a message")
    running.flush_redis()
    running.start_worker("first")
    assert_ran_once(running, before)
    running.flush_redis()  # also deletes the queues that connected clients have declared
    after = submit(service, "after-the-loss", short_recipe())
    running.flush_redis()
    assert_ran_once(running, after)


def test_without_postgresql_images_are_drawn_and_training_goes_on(running: Cluster, service: Service) -> None:
    recipe = long_recipe(training__total_images=6000, training__checkpoint_every_images=1500)
    job_id = submit(service, "without-postgresql", recipe)
    wait_until(lambda: running.job(job_id).images_done > 0, "some progress")
    work = set(running.work_processes())
    before = service.images(seed=1)
    client = service.client
    with away(running.postgres):
        used = cpu_ticks(work)
        assert np.array_equal(service.images(seed=1), before)
        archive = {"Content-Type": "application/octet-stream"}
        for answer in (
            client.get("/v1/train-jobs"),
            client.post("/train-jobs", json=request("refused", recipe)),
            client.post("/train-jobs", json=request("refused", recipe), headers={"Idempotency-Key": "away"}),
            client.get(f"/v1/train-jobs/{job_id}"),
            client.post(f"/v1/train-jobs/{job_id}/cancel"),
            client.get(f"/v1/train-jobs/{job_id}/events"),
            client.get(f"/v1/train-jobs/{job_id}/metrics"),
            client.get("/v1/models"),
            client.get("/v1/models/tiny"),
            client.put("/v1/models/tiny/alias/canary", json={"version": 1}),
            client.post("/v1/datasets?name=new&format=zip", content=b"PK", headers=archive),
            client.post("/v1/datasets", json={"name": "new", "format": "digits"}),
            client.get("/v1/datasets"),
            client.post("/v1/generate-jobs", json={"class": "One", "n": 10}),
        ):
            assert_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200, path
        wait_until(lambda: cpu_ticks(work) > used + 50, "training goes on")
        assert living(work) == work
    assert client.get("/v1/train-jobs").status_code == 200
    assert_ran_once(running, job_id)
    assert last_weights(running, job_id) == expected_weights(running.job(job_id))
    assert client.get("/v1/train-jobs", params={"model": "refused"}).json()["jobs"] == []


def test_while_postgresql_only_reads_training_goes_on_and_writes_are_refused_for_now(
    running: Cluster, service: Service
) -> None:
    def seen() -> datetime:
        with running.database.session() as session:
            return session.get_one(Worker, "first").seen_at

    recipe = long_recipe(training__total_images=3000, training__checkpoint_every_images=1000)
    job_id = submit(service, "only-reading", recipe)
    wait_until(lambda: running.job(job_id).images_done > 0, "some progress")
    work, before, client = set(running.work_processes()), service.images(seed=1), service.client
    log = running.folder / "first.log"
    with only_reading(running.postgres):
        begun, used, seen_before = log.stat().st_size, cpu_ticks(work), seen()
        for answer in (
            client.post("/train-jobs", json=request("refused", recipe)),
            client.post(f"/v1/train-jobs/{job_id}/cancel"),
            client.put("/v1/models/tiny/alias/canary", json={"version": 1}),
        ):
            assert assert_problem(answer, 503)["detail"] == "the database cannot be used now; try again"
            assert int(answer.headers["retry-after"]) > 0
        for path in ("/v1/train-jobs", f"/v1/train-jobs/{job_id}", "/readyz"):
            assert client.get(path).status_code == 200, path
        assert np.array_equal(service.images(seed=1), before)
        wait_until(lambda: cpu_ticks(work) > used + 50, "training goes on")
        wait_until(lambda: log.read_bytes()[begun:].count(b"read-only transaction") > 2, "beats and renewals fail")
        assert living(work) == work
        assert seen() == seen_before
    wait_until(lambda: seen() > seen_before, "the worker beats again")
    assert_ran_once(running, job_id)
    assert last_weights(running, job_id) == expected_weights(running.job(job_id))


def test_while_postgresql_hangs_images_are_drawn(running: Cluster, service: Service) -> None:
    """Requests that wait for PostgreSQL do not block the threads that others need."""
    before = service.images(seed=1)
    assert running.postgres.process is not None
    server = list(family_of(running.postgres.process.pid))

    def ask(_: int) -> int:
        return httpx.get(f"{service.url}/v1/train-jobs", timeout=PATIENCE_SECONDS, trust_env=False).status_code

    with ThreadPoolExecutor(MANY) as threads:
        signal_all(server, signal.SIGSTOP)
        try:
            waiting = [threads.submit(ask, number) for number in range(MANY)]
            time.sleep(1.0)  # the waiting requests take their threads
            assert np.array_equal(service.images(seed=1), before)
            answered = sum(one.done() for one in waiting)
            for path in ("/healthz", "/readyz", "/", "/console/src/main.js", "/docs/assets/swagger-ui.css"):
                assert service.client.get(path).status_code == 200, path
        finally:
            signal_all(server, signal.SIGCONT)
        assert {one.result() for one in waiting} <= {200, 503}
    assert answered < MANY / 2, "the images came when requests that waited for the database had given up"
    assert service.client.get("/v1/train-jobs").status_code == 200


def test_without_postgresql_beyond_the_lease_the_work_ends_and_the_job_goes_on_later(tmp_path: Path) -> None:
    with cluster(tmp_path / "cluster", "first") as running:
        job_id = running.submit(long_recipe(training__total_images=4800), running.register(), max_attempts=20)
        wait_until(lambda: running.job(job_id).images_done > 0, "some progress")
        work = set(running.work_processes())
        with away(running.postgres):
            wait_until(lambda: not living(work), "the work process ends with its lease")
        done = running.wait_for(job_id, "succeeded", "failed")
        assert done.status == "succeeded", done.failure
        assert done.attempt > 1
        assert last_weights(running, job_id) == expected_weights(done)


def test_a_request_that_is_repeated_after_the_api_was_killed_creates_one_job(running: Cluster, weights: Path) -> None:
    """The API is killed within the transaction, after the commit, or after the answer."""

    def jobs(model: str) -> list[int]:
        with running.database.session() as session:
            return [job.id for job in list_jobs(session, kind="train", model_name=model)]

    def inside(send: Callable[[], http.client.HTTPConnection], model: str) -> None:
        with running.database.session() as blocking:
            blocking.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
            send()
            wait_until(lambda: waiting_for_a_lock(running, "INSERT INTO jobs %") > 0, "the job is being stored")
            running.kill("mortal")
            assert jobs(model) == []

    def committed(send: Callable[[], http.client.HTTPConnection], model: str) -> None:
        send()
        wait_until(lambda: bool(jobs(model)), "the job is stored")
        running.kill("mortal")

    def answered(send: Callable[[], http.client.HTTPConnection], model: str) -> None:
        answer = send().getresponse()
        assert answer.status == 202
        assert jobs(model) == [json.loads(answer.read())["id"]]
        running.kill("mortal")

    url = running.start_api(weights, "mortal")
    held: list[http.client.HTTPConnection] = []  # keeps connections open until the API has read the body
    for number, moment in enumerate((inside, committed, answered)):
        model = f"repeated-{number}"
        body = request(model, short_recipe(), device="cuda")  # no worker here has one
        headers = {"Idempotency-Key": f"key-{number}"}

        def send(url: str = url, body: Json = body, headers: dict[str, str] = headers) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection(urlsplit(url).netloc)
            sent = headers | {"Content-Type": "application/json"}
            connection.request("POST", "/v1/train-jobs", json.dumps(body), sent)
            held.append(connection)
            return connection

        moment(send, model)
        url = running.start_api(weights, "mortal")
        with Service(url).client as client:
            told = [client.post("/v1/train-jobs", json=body, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in told] == [202, 202]
        assert [answer.json()["id"] for answer in told] == jobs(model) * 2
    running.kill("mortal")


def test_a_watcher_misses_nothing_when_the_api_is_killed(running: Cluster, weights: Path) -> None:
    def cut_off(event: Event) -> None:
        if event.kind == "checkpoint" and "mortal" in running.processes:
            running.kill("mortal")

    first = Service(running.start_api(weights, "mortal"))
    with first.client:
        job_id = submit(first, "watched", long_recipe(training__checkpoint_every_images=400))
        seen = watch_until_cut_off(first, job_id, cut_off)
    last = max(number for number, _ in numbered(seen) if number is not None)
    again = Service(running.start_api(weights, "mortal"))
    with again.client:
        rest = watch(again, job_id, headers={"Last-Event-ID": str(last)})
    running.kill("mortal")
    assert rest[-1].kind == "end"
    assert numbered(rest)
    assert numbered(seen + rest) == stored(running.database, job_id)
    assert_ran_once(running, job_id)


@pytest.mark.usefixtures("second")
def test_when_every_message_comes_many_times_no_job_runs_twice(running: Cluster, service: Service) -> None:
    report = Report()
    with watching(running, report):
        running.send_hints(50)
        jobs = [submit(service, f"repeated-message-{number}", short_recipe()) for number in range(3)]
        running.send_hints(50)
        for job_id in jobs:
            running.wait_for(job_id, "running", "succeeded")
            running.send_hints(50)
        for job_id in jobs:
            running.wait_for(job_id, "succeeded", "failed")
        wait_until(lambda: running.waiting_hints() == 0, "every message was taken")
    assert not report.doubled
    for job_id in jobs:
        assert_ran_once(running, job_id)


@pytest.mark.usefixtures("second")
def test_of_two_supervisors_that_claim_a_job_at_the_same_time_one_gets_it(running: Cluster, service: Service) -> None:
    job_id = submit(service, "wanted-twice", short_recipe(), device="cuda")  # no worker here has one
    report = Report()
    with watching(running, report):
        with running.database.session() as session:
            due = {"device": "cpu", "not_before": func.now() + seconds(DUE_SECONDS)}
            session.execute(update(Job).where(Job.id == job_id).values(**due))
        with running.database.session() as blocking:
            blocking.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
            time.sleep(DUE_SECONDS)  # a supervisor looks without a lock, and claims what is due
            running.send_hints(2)
            claim = "UPDATE jobs SET %attempt=%"
            wait_until(lambda: waiting_for_a_lock(running, claim) == 2, "two supervisors are about to claim")
        assert_ran_once(running, job_id)
    assert not report.doubled
