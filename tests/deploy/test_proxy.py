"""Laws of the proxy with several replicas: one that takes no requests costs nobody an answer. Caddy is the real one."""

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from darkroom.app.http.problems import NOT_READY
from tests.processes import PATIENCE_SECONDS, free_port, wait_until
from tests.proxy import proxy

READY, WARMING = "127.0.0.1", "127.0.0.2"
AT_ONCE = 4
"""The replica that is ready answers only when it has this many requests, so it always looks more loaded."""


class Replica(ThreadingHTTPServer):
    """A stand-in for an API. It counts the bytes of each body. breaks: it ends each connection without an answer."""

    def __init__(self, address: tuple[str, int], *, ready: bool) -> None:
        super().__init__(address, _Answer)
        self.ready, self.breaks, self.bodies = ready, False, list[int]()
        self.full: threading.Barrier | None = threading.Barrier(AT_ONCE) if ready else None


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replica

    def do_POST(self) -> None:
        self.server.bodies.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.breaks:
            self.close_connection = True
            return
        if self.server.full:
            self.server.full.wait(PATIENCE_SECONDS)
        self.send_response(200 if self.server.ready else 503)
        for name, value in ({} if self.server.ready else NOT_READY).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def _running(replica: Replica) -> Iterator[Replica]:
    thread = threading.Thread(target=replica.serve_forever)
    thread.start()
    try:
        yield replica
    finally:
        replica.shutdown()
        thread.join()
        replica.server_close()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Replica, Replica]]:
    """A client of the proxy, a replica that is ready, and one that warms up."""
    port, places = free_port(), (READY, WARMING)
    with ExitStack() as until_done:
        ready, warming = (
            until_done.enter_context(_running(Replica((host, port), ready=host == READY))) for host in places
        )
        started = until_done.enter_context(
            proxy(tmp_path_factory.mktemp("proxy"), "http://localhost", [(host, port) for host in places])
        )
        client = httpx.Client(base_url=f"http://localhost:{started.http}", timeout=PATIENCE_SECONDS, trust_env=False)
        yield until_done.enter_context(client), ready, warming


def test_a_replica_that_warms_up_does_not_attract_the_load(proxied: tuple[httpx.Client, Replica, Replica]) -> None:
    client, ready, warming = proxied
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/generate", content=b"{}").status_code, range(5 * AT_ONCE)))
    assert answers == [200] * 5 * AT_ONCE
    assert ready.bodies == [2] * 5 * AT_ONCE
    assert set(warming.bodies) == {2}  # the proxy asked it, and nobody saw its refusal


def test_a_body_above_the_buffer_is_sent_once_and_whole(proxied: tuple[httpx.Client, Replica, Replica]) -> None:
    client, ready, warming = proxied
    ready.full = None
    ready.bodies.clear()
    warming.bodies.clear()
    answers = [client.post("/v1/datasets", content=b" " * 300_000).status_code for _ in range(2)]
    assert sorted(answers) == [200, 503]
    assert ready.bodies == warming.bodies == [300_000]


@pytest.mark.parametrize(
    ("path", "headers", "body", "statuses"),
    [
        ("/v1/generate", {}, b"{}", {200}),
        ("/v1/interpolate", {}, b"{}", {200}),
        ("/v1/train-jobs", {"Idempotency-Key": "once"}, b"{}", {200}),
        ("/v1/train-jobs", {}, b"{}", {200, 502}),
        ("/v1/generate", {}, b" " * 300_000, {200, 502}),
    ],
)
def test_what_may_be_done_twice_survives_the_end_of_its_replica(
    proxied: tuple[httpx.Client, Replica, Replica], path: str, headers: dict[str, str], body: bytes, statuses: set[int]
) -> None:
    client, ready, ending = proxied
    ready.full, ending.breaks = None, True
    ending.bodies.clear()

    def status() -> int:
        return client.post(path, content=body, headers=headers).status_code

    answers: list[int] = []
    # A broken connection keeps the proxy from this replica for some seconds.
    wait_until(lambda: answers.append(status()) or bool(ending.bodies), "the replica was asked")
    ending.breaks = False
    assert set(answers) | {200} == statuses


@pytest.mark.parametrize(("site", "address"), [("203.0.113.9", "203.0.113.9"), ("[2001:db8::7]", "2001:db8::7")])
def test_who_asks_for_an_address_gets_a_certificate_for_it(site: str, address: str, tmp_path: Path) -> None:
    """In a container the proxy's own address is another one than the site's, and clients name no address in TLS."""
    port = free_port()
    with _running(Replica((READY, port), ready=True)) as replica, proxy(tmp_path, site, [(READY, port)]) as started:
        replica.full = None
        wait_until(started.authority.exists, "an authority")
        trusted = ssl.create_default_context(cafile=started.authority)
        status = b""

        def answered() -> bool:
            nonlocal status
            with socket.create_connection(("127.0.0.1", started.https), PATIENCE_SECONDS) as connection:
                try:
                    checked = trusted.wrap_socket(connection, server_hostname=address)  # sends no name for an address
                except ssl.SSLError:  # until the certificate is made
                    return False
                with checked:
                    checked.sendall(f"POST / HTTP/1.1\r\nHost: {site}\r\nContent-Length: 0\r\n\r\n".encode())
                    status = checked.recv(64).partition(b"\r\n")[0]
            return True

        wait_until(answered, "a certificate for the address")
        assert status == b"HTTP/1.1 200 OK"
