"""Laws of two replicas behind the real proxy, with one PostgreSQL and one Redis: no client notices that one is away."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from darkroom.app.cli.service_client import ServerEvent, events
from darkroom.app.embedded.process_commands import api_command
from darkroom.store.job_repository import events_after
from tests.app.keyed import add_key
from tests.app.served import weights_folder
from tests.processes import PATIENCE_SECONDS, free_port, wait_until
from tests.proxy import proxy
from tests.system import held_api
from tests.system.cluster import Cluster, cluster
from tests.system.test_jobs import long_recipe

REPLICAS = {"first": "127.0.0.1", "second": "127.0.0.2"}
CLIENTS = 4


@dataclass(frozen=True)
class Replicated:
    """A cluster with two replicas on one port of two addresses. url: the proxy's; token: of a key for everything."""

    cluster: Cluster
    port: int
    url: str
    token: str

    def client(self, url: str | None = None) -> httpx.Client:
        """Return a client of the proxy, or of another address."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=url or self.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False)

    def start(self, name: str, application: str = "darkroom.app.main:application", **environment: str) -> None:
        """Start a replica, without waiting for it."""
        command = [
            application if part == "darkroom.app.main:application" else part
            for part in api_command(REPLICAS[name], self.port)
        ]
        settings = {"DARKROOM_WEIGHTS_FOLDER": str(self.cluster.folder / "weights"), "DARKROOM_DEVICE": "cpu"}
        self.cluster.run(name, command, **settings, **environment)

    def ask(self, name: str, path: str) -> httpx.Response | None:
        """Ask a replica without the proxy; None while it does not listen."""
        with self.client(f"http://{REPLICAS[name]}:{self.port}") as client:
            try:
                return client.get(path)
            except httpx.TransportError:
                return None

    def wait_for(self, name: str, status: int) -> None:
        """Wait until the replica's readiness probe has this status."""

        def has_it() -> bool:
            answer = self.ask(name, "/readyz")
            return answer is not None and answer.status_code == status

        wait_until(has_it, f"{name}: {status}")

    def drawn(self, name: str) -> float:
        """Return the number of sampling requests that a replica has finished."""
        answer = self.ask(name, "/metrics")
        assert answer is not None
        lines = [line for line in answer.text.splitlines() if line.startswith("darkroom_sampling_requests_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    @contextmanager
    def load(self) -> Iterator[Counter[int]]:
        """Draw all the time while the block runs; yields the number of answers by status."""
        statuses, ended = Counter[int](), threading.Event()

        def draw() -> None:
            with self.client() as client:
                while not ended.is_set():
                    answer = client.post("/v1/generate", json={"class": "One", "format": "json", "model": "tiny"})
                    statuses[answer.status_code] += 1

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(draw) for _ in range(CLIENTS)]
            try:
                yield statuses
            finally:
                ended.set()
            for client in clients:
                client.result()


def _more(statuses: Counter[int], count: int) -> Callable[[], bool]:
    """Return a condition: so many more answers than now."""
    wanted = statuses.total() + count
    return lambda: statuses.total() >= wanted


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    """Two replicas that are ready, and a worker."""
    folder, port = tmp_path_factory.mktemp("replicas"), free_port()
    weights_folder(folder / "weights")
    (folder / "proxy").mkdir()
    places = [(host, port) for host in REPLICAS.values()]
    with cluster(folder, "worker") as parts, proxy(folder / "proxy", "http://localhost", places) as front:
        _, token = add_key(parts.database, "admin", requests_per_minute=1_000_000)
        started = Replicated(parts, port, f"http://localhost:{front.http}", token)
        for name in REPLICAS:
            started.start(name)
        for name in REPLICAS:
            started.wait_for(name, 200)
        yield started


def test_both_replicas_draw(replicated: Replicated) -> None:
    before = {name: replicated.drawn(name) for name in REPLICAS}
    with replicated.load() as statuses:
        wait_until(_more(statuses, 40), "40 answers")
    assert set(statuses) == {200}
    drawn = {name: replicated.drawn(name) - before[name] for name in REPLICAS}
    assert sum(drawn.values()) == statuses.total()
    assert min(drawn.values()) >= 10, drawn


def test_while_one_warms_up_the_other_answers_everybody(replicated: Replicated, tmp_path: Path) -> None:
    warm = tmp_path / "warm"
    replicated.cluster.end("second")
    replicated.start("second", held_api.APPLICATION, **{held_api.FILE: str(warm)})
    replicated.wait_for("second", 503)
    with replicated.load() as statuses:
        wait_until(_more(statuses, 40), "40 answers while it warms up")
        assert replicated.drawn("second") == 0
        warm.touch()
        replicated.wait_for("second", 200)
        wait_until(lambda: replicated.drawn("second") > 0, "it draws")
    assert set(statuses) == {200}


def test_a_replica_is_restarted_under_load_and_no_request_fails(replicated: Replicated) -> None:
    with replicated.load() as statuses:
        for name in REPLICAS:
            wait_until(_more(statuses, 20), "answers of both")
            replicated.cluster.end(name)
            wait_until(_more(statuses, 20), "answers of the other one")
            replicated.start(name)
            replicated.wait_for(name, 200)
    assert set(statuses) == {200}


def test_a_stream_of_events_goes_on_when_each_replica_is_restarted(replicated: Replicated) -> None:
    parts = replicated.cluster
    job_id = parts.submit(long_recipe(training__total_images=24_000), parts.register())
    seen: list[ServerEvent] = []

    def watch() -> None:
        with replicated.client() as client:
            while not seen or seen[-1].kind != "end":
                last = max((event.number for event in seen if event.number is not None), default=0)
                path = f"/v1/train-jobs/{job_id}/events"
                with client.stream("GET", path, headers={"Last-Event-ID": str(last)}) as answer:
                    assert answer.status_code == 200
                    seen.extend(events(answer))  # one by one, as they arrive

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        for name in REPLICAS:
            count = len(seen)
            wait_until(lambda count=count: len(seen) > count + 2, "events told")
            parts.end(name)
            replicated.start(name)
            replicated.wait_for(name, 200)
        with replicated.client() as client:
            client.post(f"/v1/train-jobs/{job_id}/cancel").raise_for_status()
        watching.result(PATIENCE_SECONDS)
    with parts.database.session() as session:
        stored = [(event.number, event.kind) for event in events_after(session, job_id, 0)]
    assert [(event.number, event.kind) for event in seen if event.number is not None] == stored
    assert [event.kind for event in seen].count("reconnect") in (1, 2)
