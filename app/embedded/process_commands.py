"""The command lines of Darkroom's processes.

`darkroom up` starts them as children. In a container, `darkroom api` and its siblings replace themselves by them.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

import darkroom
from darkroom.app.settings import is_loopback

PYTHON = (sys.executable, "-P", "-m")
"""Runs a module. With -P, Python does not look into the current folder, which may have a `darkroom` of its own."""
INSTALLED = str(Path(darkroom.__file__).parent.parent)
"""The folder that has this `darkroom`. Uvicorn looks into the current folder, too, where it gets no other."""
KEEP_ALIVE_SECONDS = 180
"""The API keeps an idle connection for this long. Proxies keep theirs for a shorter time (Caddy 120, Traefik 90),
so no proxy sends a request on a connection that the API is closing."""

LAST_SECONDS = 5
"""Connections have this long to end after the drain (DARKROOM_DRAIN_SECONDS), when no request runs any more."""


def api_command(host: str, port: int) -> list[str]:
    """Return the command line of the API server."""
    return [
        *(*PYTHON, "uvicorn", "--factory", "darkroom.app.main:application", "--app-dir", INSTALLED),
        *("--host", host, "--port", str(port)),
        *("--http", "darkroom.app.http.protocol:ProblemProtocol", "--ws", "none"),
        *("--timeout-graceful-shutdown", str(LAST_SECONDS), "--no-access-log"),
        *("--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)),
    ]


def worker_commands() -> dict[str, list[str]]:
    """Return the command lines of the worker and of the reconciler, by name."""
    modules = {"worker": "darkroom.worker.celery_app", "reconciler": "darkroom.worker.reconciler"}
    return {name: [*PYTHON, module] for name, module in modules.items()}


def reached_at(host: str) -> str:
    """Return DARKROOM_HOST for a service that listens on `host`.

    On loopback a proxy may be in front of the service; the operator's DARKROOM_HOST then says where others reach it.
    """
    return os.environ.get("DARKROOM_HOST", host) if is_loopback(host) else host


def become(command: list[str]) -> NoReturn:
    """Replace this process by the command, so that signals and the exit code are the command's.

    No other account can read what it writes.
    """
    os.umask(0o077)
    os.execv(command[0], command)
