"""Laws of the deployment: docker-compose.yml's own commands start, serve, train, drain, and ask clients for a key."""

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psycopg
import pytest
import redis

from tests.app.served import weights_folder
from tests.processes import PATIENCE_SECONDS, wait_until
from tests.system.containers import Containers, containers

Json = dict[str, Any]

SMALL = {
    "model.unet.width": 8,
    "model.unet.multipliers": [1],
    "model.unet.attention_resolutions": [],
    "model.unet.attention_head_channels": 8,
    "model.unet.norm_groups": 2,
    "evaluation": None,
    "training.checkpoint_every_images": 1000,
    "training.early_verdict": "off",  # so short a run fails each verdict
}
GOOD_ENDS = (0, -15)
"""Exit codes of an orderly end: 0, or -15 for uvicorn, which sends the signal to itself after its shutdown."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """A deployment in which only PostgreSQL and Redis run, with migrated tables."""
    folder = tmp_path_factory.mktemp("compose")
    settings = {
        "DARKROOM_WEIGHTS_FOLDER": str(weights_folder(folder / "weights")),
        "DARKROOM_RECONCILE_SECONDS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with containers(folder, **settings) as started:
        migrated = started.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        yield started


@pytest.fixture(scope="module")
def refusal(deployment: Containers) -> str:
    """The API's error when it starts without any API key."""
    process = deployment.start("api")
    wait_until(lambda: process.exit_code() is not None, "the API gives up")
    assert process.exit_code() != 0
    return process.log_tail(100)


@pytest.fixture(scope="module")
def key(deployment: Containers, refusal: str) -> str:
    """The first API key, made as docs/deploy.md says."""
    return _new_key(deployment, "first", "admin")


def _new_key(deployment: Containers, name: str, scopes: str) -> str:
    made = deployment.run("api", "darkroom", "keys", "create", "--name", name, "--scopes", scopes)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@pytest.fixture(scope="module")
def running(deployment: Containers, key: str) -> Containers:
    """A deployment in which all of Darkroom's services are healthy."""
    for name in ("api", "worker", "reconciler"):
        deployment.start(name)
    for name in ("api", "worker", "reconciler"):
        deployment.wait_until_healthy(name)
    return deployment


@pytest.fixture(scope="module")
def client(running: Containers, key: str) -> Iterator[httpx.Client]:
    with _client(running.api, key) as client:
        yield client


def _client(url: str, key: str | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, verify=False)


def _draw(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/generate", json={"class": "One", "format": "json", "model": "tiny"} | body)


def _submit(client: httpx.Client, total_images: int) -> str:
    """Queue a train job on the digits; returns its path."""
    length = {"training.total_images": total_images, "training.sample_every_images": total_images}
    body = {"recipe": "digits", "model": "digits", "promote": "best", "overrides": SMALL | length}
    answer = client.post("/v1/train-jobs", json=body)
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return f"/v1/train-jobs/{answer.json()['id']}"


def _wait_for(client: httpx.Client, job: str, *statuses: str) -> Json:
    wait_until(lambda: client.get(job).json()["status"] in statuses, f"{job} {statuses}")
    found: Json = client.get(job).json()
    return found


def test_the_database_and_the_broker_want_their_passwords(deployment: Containers) -> None:
    url = deployment.environment("api")["DATABASE_URL"]
    assert "password" not in url
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url)
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(deployment.environment("api")["REDIS_URL"]).ping()


def test_the_broker_keeps_what_it_has_and_evicts_nothing(deployment: Containers) -> None:
    def broker() -> redis.Redis:
        password = deployment.secret("redis_password")
        return redis.Redis(port=deployment.port("6379"), password=password, decode_responses=True)

    assert broker().config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    broker().set("kept", "over a restart")
    deployment.stop("redis")
    deployment.start("redis")
    deployment.wait_until_healthy("redis")
    assert broker().get("kept") == "over a restart"


def test_migrating_again_changes_nothing(deployment: Containers) -> None:
    again = deployment.run("migrate")
    assert (again.returncode, again.stdout) == (0, "")
    assert "up to date" in again.stderr


def test_a_secret_that_is_missing_is_said(deployment: Containers) -> None:
    password = deployment.secrets / "service_password"
    kept = password.read_text()
    password.write_text("")
    try:
        refused = deployment.run("migrate")
    finally:
        password.write_text(kept)
    assert refused.returncode == 2
    assert f"{password} is empty" in "".join(refused.stderr.split("\n"))


def test_the_api_does_not_start_without_keys_and_says_how_one_is_made(refusal: str) -> None:
    assert "0.0.0.0 can be reached from other machines" in refusal
    assert "darkroom keys create" in refusal


def test_who_has_a_key_may_draw(running: Containers, client: httpx.Client) -> None:
    with _client(running.api, None) as stranger:
        assert _draw(stranger).status_code == httpx.codes.UNAUTHORIZED
        assert stranger.get("/metrics").status_code == httpx.codes.UNAUTHORIZED
    drawn = _draw(client)
    assert drawn.status_code == httpx.codes.OK, drawn.text


def test_prometheus_key_opens_metrics_alone(running: Containers) -> None:
    with _client(running.api, _new_key(running, "prometheus", "metrics")) as prometheus:
        assert "darkroom_workers_alive" in prometheus.get("/metrics").text
        assert _draw(prometheus).status_code == httpx.codes.FORBIDDEN


def test_digits_are_trained_and_drawn(client: httpx.Client) -> None:
    job = _submit(client, 2000)
    assert _wait_for(client, job, "succeeded", "failed")["status"] == "succeeded"
    assert _draw(client, **{"class": "7", "model": "digits"}).status_code == httpx.codes.OK


def test_a_worker_that_is_stopped_hands_its_job_back_and_the_next_goes_on(
    running: Containers, client: httpx.Client
) -> None:
    job = _submit(client, 10_000_000)
    wait_until(lambda: bool(client.get(f"{job}/checkpoints").json()["checkpoints"]), "a checkpoint")
    assert running.stop("worker").exit_code() == 0
    handed_back = client.get(job).json()
    assert (handed_back["status"], handed_back["attempt"]) == ("queued", 1)
    learnt = handed_back["progress"]["images_done"]
    running.start("worker")
    running.wait_until_healthy("worker")
    _wait_for(client, job, "running")
    wait_until(lambda: client.get(job).json()["progress"]["images_done"] > learnt, "it goes on")
    client.post(f"{job}/cancel").raise_for_status()
    _wait_for(client, job, "cancelled")


def test_the_reconciler_ends_when_it_is_stopped(running: Containers) -> None:
    assert running.stop("reconciler").exit_code() == 0
    running.start("reconciler")
    running.wait_until_healthy("reconciler")


def test_an_api_that_is_stopped_answers_whom_it_has(running: Containers, client: httpx.Client) -> None:
    with ThreadPoolExecutor() as pool, _client(running.api, None) as probe:
        asked = pool.submit(_draw, client, n=64, steps=500)
        wait_until(lambda: _rows(client) > 0, "it draws")
        stopping = pool.submit(running.stop, "api")
        wait_until(lambda: probe.get("/readyz").status_code == httpx.codes.SERVICE_UNAVAILABLE, "it drains")
        assert asked.result().status_code == httpx.codes.OK
        stopped = stopping.result()
    assert stopped.exit_code() in GOOD_ENDS
    running.start("api")
    running.wait_until_healthy("api")


def _rows(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("darkroom_rows_"))


class _Grafana(BaseHTTPRequestHandler):
    """A fake Grafana that answers with the requested path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"grafana": self.path}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def proxied(running: Containers) -> Iterator[str]:
    """The service's address through the proxy."""
    grafana = ThreadingHTTPServer(("127.0.0.1", running.port("3000")), _Grafana)
    thread = threading.Thread(target=grafana.serve_forever)
    thread.start()
    try:
        running.start("proxy")
        running.wait_until_healthy("proxy")
        url = f"https://localhost:{running.port('8443')}"
        wait_until(lambda: _answers(url), "a certificate")
        yield url
        assert running.stop("proxy").exit_code() == 0
    finally:
        grafana.shutdown()
        thread.join()
        grafana.server_close()


def _answers(url: str) -> bool:
    try:
        with _client(url, None) as client:
            return client.get("/healthz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_the_proxy_passes_on_whom_the_api_lets_in(proxied: str, key: str) -> None:
    with _client(proxied, None) as stranger:
        assert stranger.get("/readyz").status_code == httpx.codes.OK
        assert _draw(stranger).status_code == httpx.codes.UNAUTHORIZED
    with _client(proxied, key) as client:
        answer = _draw(client)
        assert answer.status_code == httpx.codes.OK
        assert "max-age" in answer.headers["Strict-Transport-Security"]  # the API knows that the client uses TLS


def test_the_audit_trail_has_the_clients_address_and_not_its_word_for_it(proxied: str, key: str) -> None:
    with _client(proxied, key) as client:
        client.headers["X-Forwarded-For"] = "203.0.113.7"
        made = client.post("/v1/keys", json={"name": "audited", "scopes": ["metrics"]})
        assert made.status_code == httpx.codes.CREATED, made.text
        events = client.get("/v1/audit-events").json()["audit_events"]
        assert events[0]["client_address"] in ("127.0.0.1", "::1")


def test_plain_http_leads_to_tls(proxied: str, running: Containers) -> None:
    with _client(f"http://localhost:{running.port('8080')}", None) as client:
        answer = client.get("/docs")
        assert answer.is_redirect
        assert answer.headers["Location"] == "https://localhost/docs"


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/./metrics", "/docs/../metrics", "/METRICS"]
)
def test_metrics_are_not_for_the_public(proxied: str, key: str, path: str) -> None:
    host, port = proxied.removeprefix("https://").split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=ssl._create_unverified_context())
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})  # httpx would normalise it
    answer = connection.getresponse()
    assert (answer.status, b"darkroom_" in answer.read()) == (404, False)
    connection.close()


def test_grafana_has_an_origin_of_its_own(proxied: str, running: Containers) -> None:
    with _client(f"https://localhost:{running.port('8444')}", None) as client:
        for path in ("/d/1", "/", "/console/", "/v1/models"):
            assert client.get(path).json() == {"grafana": path}
    with _client(proxied, None) as client:
        for path in ("/grafana", "/grafana/", "/grafana/d/1"):
            assert client.get(path).headers["Content-Type"] == "application/problem+json"  # from the API
