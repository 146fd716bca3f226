"""Laws of the commands' client: it finds the service in a fixed order, and never uses a proxy on this machine."""

import fcntl
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from darkroom.app.cli.main import cli
from darkroom.app.cli.service_client import find_service
from darkroom.model.machine.folder_lock import service_address, state_lock
from tests.processes import free_port

TOKEN = "drk_" + "a" * 10 + "_" + "b" * 43
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


class Listener(ThreadingHTTPServer):
    """Stands in for a service without jobs, or for a proxy. Records each request's path and key."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        body = json.dumps({"jobs": []}).encode() if self.server.status == 200 else b"<html>"
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def listening(status: int = 200) -> Iterator[Listener]:
    with Listener(status) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a service, and an environment without a proxy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_API_KEY", TOKEN)
    for name in ("DARKROOM_URL", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", *PROXIES):
        monkeypatch.delenv(name, raising=False)


def jobs(*options: str) -> Result:
    return CliRunner().invoke(cli, ["jobs", *options])


def refusal(*options: str) -> str:
    """Return the single line of a command that fails."""
    result = jobs(*options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("variable", PROXIES)
def test_this_machine_is_never_reached_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    with listening() as service, listening() as proxy:
        for url in (proxy.url, "socks5://127.0.0.1:1", "http://[::"):
            monkeypatch.setenv(variable, url)
            result = jobs("--url", f"http://{host}:{service.server_port}")
            assert (result.exit_code, result.output) == (0, "No jobs.\n")
        assert proxy.asked == []
        assert service.asked == [("/v1/train-jobs?limit=20", f"Bearer {TOKEN}")] * 3


def test_other_hosts_are_reached_through_the_environment_s_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert jobs("--url", "http://darkroom.example").output == "No jobs.\n"
        assert [path for path, _ in proxy.asked] == ["http://darkroom.example/v1/train-jobs?limit=20"]
        monkeypatch.setenv("no_proxy", "darkroom.invalid")
        refusal("--url", "http://darkroom.invalid")
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("url", "proxy", "words"),
    [
        ("http://darkroom.example", "socks5://127.0.0.1:1", "socksio"),
        ("http://darkroom.example", "ftp://127.0.0.1:1", "all_proxy cannot be used (Unknown scheme"),
        ("http://darkroom.example", "http://[::", "all_proxy cannot be used"),
        ("http://darkroom.example", "http://127.0.0.1:1", "through the proxy in all_proxy"),
        ("https://darkroom.example", "http://127.0.0.1:1", "through the proxy in all_proxy"),
    ],
)
def test_an_unusable_proxy_is_one_line_with_advice(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str, words: str
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    said = refusal("--url", url)
    assert words in said
    assert "no_proxy" in said


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_one_line(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with listening(407) as proxy:
        monkeypatch.setenv("all_proxy", proxy.url)
        said = refusal("--url", f"{scheme}://darkroom.example")
    assert "proxy" in said
    assert "no_proxy" in said


def test_missing_certificates_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    assert "SSL_CERT_FILE" in refusal("--url", "https://127.0.0.1:1")


def test_the_option_overrides_the_environment_and_that_overrides_the_running_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert find_service(None).url == "http://127.0.0.1:8000"
    with state_lock(Path(".darkroom")) as lock:
        assert find_service(None).url == "http://127.0.0.1:8000"  # the holder does not serve, like `darkroom keys`
        lock.serve_at("http://127.0.0.1:8400")
        assert find_service(None).url == "http://127.0.0.1:8400"
        monkeypatch.setenv("DARKROOM_URL", "https://lab.example/")
        assert find_service(None).url == "https://lab.example"
        assert find_service("http://127.0.0.1:9").url == "http://127.0.0.1:9"
        monkeypatch.delenv("DARKROOM_URL")
    assert find_service(None).url == "http://127.0.0.1:8000"
    assert not Path(".darkroom").exists()  # the lock had created the folder
    Path(".darkroom").mkdir()
    with state_lock(Path(".darkroom")):
        pass
    assert list(Path(".darkroom").iterdir()) == []


def test_the_address_of_a_service_that_was_killed_is_not_used() -> None:
    Path(".darkroom").mkdir()
    Path(".darkroom", "lock").write_text("4242\nhttp://127.0.0.1:8400\n", encoding="ascii")
    assert service_address(Path(".darkroom")) is None
    assert find_service(None).url == "http://127.0.0.1:8000"
    with Path(".darkroom", "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert find_service(None).url == "http://127.0.0.1:8400"


def test_the_running_service_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, state_lock(Path(".darkroom")) as lock:
        monkeypatch.setenv("all_proxy", proxy.url)
        lock.serve_at("http://darkroom.invalid:8000")  # such as the name of this machine
        assert "no answer from http://darkroom.invalid:8000" in refusal()
        assert proxy.asked == []


def test_when_nothing_listens_the_line_names_the_address_and_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert f"no answer from {url} (--url)" in refusal("--url", url)
    with state_lock(Path(".darkroom")) as lock:
        lock.serve_at(url)
        assert f"no answer from {url} (where the service of .darkroom is)" in refusal()
    monkeypatch.setenv("DARKROOM_URL", url)
    assert f"no answer from {url} (DARKROOM_URL)" in refusal()
    for wrong in ("localhost:8000", "ftp://localhost", "http://", "http://[::"):
        monkeypatch.setenv("DARKROOM_URL", wrong)
        assert f"{wrong} (DARKROOM_URL) is not" in refusal()
