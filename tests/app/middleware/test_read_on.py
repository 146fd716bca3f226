"""Laws of refusals while a body is being sent: every client gets the answer, and no client can send for ever."""

import contextlib
import http.client
import resource
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from darkroom.app.middleware.read_on import READ_ON_BYTES
from tests.app.served import Service
from tests.processes import PATIENCE_SECONDS

BODY = b'{"class": "' + b"a" * 6_000_000 + b'"}'
JSON = {"Content-Type": "application/json"}
REFUSALS = (("POST", "/generate", {}, 413), ("POST", "/generate", {"Host": "elsewhere.example"}, 401))


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize(("method", "path", "headers", "status"), REFUSALS)
def test_a_client_that_reads_after_sending_gets_the_answer(
    service: Service, method: str, path: str, headers: dict[str, str], status: int, connection: str
) -> None:
    url = httpx.URL(service.url)
    client = http.client.HTTPConnection(url.host, url.port, timeout=PATIENCE_SECONDS)
    try:
        client.request(method, path, BODY, JSON | headers | {"Connection": connection})
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Content-Type")) == (status, "application/problem+json")
        assert b'"status": %d' % status in answer.read()
    finally:
        client.close()


@pytest.mark.parametrize("expect", ["100-continue", ""])
def test_curl_gets_the_answer_with_and_without_100_continue(service: Service, tmp_path: Path, expect: str) -> None:
    (tmp_path / "body").write_bytes(BODY)
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", " %{http_code}", "--data-binary"]
    command += [f"@{tmp_path / 'body'}", "--header", "Content-Type: application/json", "--header", f"Expect: {expect}"]
    done = subprocess.run(
        [*command, f"{service.url}/generate"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" 413")
    assert "body-too-large" in done.stdout


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("framing", [b"Content-Length: 999999999999", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("host", [b"localhost", b"elsewhere.example"])
def test_a_client_that_never_stops_is_cut_off_and_costs_no_memory(
    service: Service, framing: bytes, host: bytes
) -> None:
    url, piece, sent = httpx.URL(service.url), b" " * 65_536, 0
    if b"chunked" in framing:
        piece = b"%x\r\n%s\r\n" % (len(piece), piece)
    before = _resident_bytes()
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_SECONDS) as connection:
        head = b"POST /generate HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s\r\n\r\n"
        connection.sendall(head % (host, framing))
        with contextlib.suppress(ConnectionError):
            while sent < 4 * READ_ON_BYTES:
                connection.sendall(piece)
                sent += len(piece)
    assert READ_ON_BYTES / 2 < sent < 2 * READ_ON_BYTES
    assert _resident_bytes() - before < READ_ON_BYTES / 2
    assert service.client.get("/healthz").is_success


def test_a_client_that_waits_for_the_answer_gets_it_before_it_sends_the_rest(service: Service) -> None:
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n{")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.getheader("Connection")) == (413, "close")
        assert b"body-too-large" in answer.read()
        connection.sendall(b" " * 1000)  # the connection is still open
