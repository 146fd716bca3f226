"""Laws of what the benches do beside a load: a probe that fails is not lost, and neither is an action."""

import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.service import free_port, probing, repeating


class _Server(ThreadingHTTPServer):
    connections = 0
    statuses = (200, 503, 200)


class _Health(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps a connection open if the client does

    def setup(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.connections += 1
        super().setup()

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.send_response(self.server.statuses[(self.server.connections - 1) % 3])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Health) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def _probed(url: str) -> list[float]:
    with probing(url, 0.001) as seconds:
        while len(seconds) < 3:
            time.sleep(0.001)
    return seconds


def test_each_probe_opens_a_connection_and_one_that_fails_does_not_end_them(server: _Server) -> None:
    seconds = _probed(f"http://127.0.0.1:{server.server_port}")
    assert [math.isinf(one) for one in seconds[:3]] == [False, True, False]
    assert server.connections == len(seconds)


def test_probes_of_a_service_that_is_gone_have_failed() -> None:
    assert set(_probed(f"http://127.0.0.1:{free_port()}")) == {math.inf}


def test_what_a_repeated_action_raises_comes_out_of_the_block() -> None:
    called = threading.Event()

    def look() -> None:
        called.set()
        raise ValueError("there is nothing to look at")

    with pytest.raises(ValueError, match="nothing to look at"), repeating(look, 0.001):
        called.wait(60)
