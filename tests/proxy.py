"""The real Caddy with the shipped configuration, in front of replicas on this machine."""

import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from darkroom.app.embedded.process import ChildProcess
from tests.compose import ROOT, services
from tests.processes import free_port, wait_until

_PROGRAMS = Path(sys.executable).parent  # of Caddy's wheel
_LOOK_UP = "dynamic a api 8000 {\n\t\t\t\trefresh 5s\n"


@dataclass(frozen=True)
class Proxy:
    """A running proxy. http, https: its ports on this machine; folder: of its own certificate authority."""

    http: int
    https: int
    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate that signs its certificates."""
        return self.folder / "caddy/pki/authorities/local/root.crt"


@contextmanager
def proxy(folder: Path, site: str, replicas: Sequence[tuple[str, int]]) -> Iterator[Proxy]:
    """Run the proxy until the end of the block. site: DARKROOM_SITE; replicas: addresses and ports of the APIs."""
    text = (ROOT / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")
    assert _LOOK_UP in text
    every = "\n".join(f"a {host} {port}" for host, port in replicas)
    text = text.replace(_LOOK_UP, f"dynamic multi {{\n{every}\n")
    ports = {place: free_port() for place in ("8080", "8443", "8444", "8081")}
    for place, port in ports.items():
        text = text.replace(place, str(port))
    (folder / "Caddyfile").write_text(text, encoding="utf-8")
    caddy = ChildProcess(
        "proxy",
        [part.replace("/etc/caddy/Caddyfile", str(folder / "Caddyfile")) for part in services()["proxy"]["command"]],
        log=folder / "proxy.log",
        environment={"DARKROOM_SITE": site, "XDG_DATA_HOME": str(folder), "PATH": f"{_PROGRAMS}:{os.environ['PATH']}"},
        parent_death_signal=signal.SIGKILL,
    )
    running = Proxy(ports["8080"], ports["8443"], folder)
    try:
        wait_until(lambda: caddy.exit_code() is not None or _listens(running.http), "the proxy listens")
        assert caddy.exit_code() is None, caddy.log_tail()
        yield running
    finally:
        caddy.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
