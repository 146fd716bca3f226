"""The command lines of Darkroom's processes. `darkroom up` starts them as children; in a container `darkroom api` and
the like become them."""

import os
import sys
from typing import NoReturn

from darkroom.app.settings import is_loopback

KEEP_ALIVE_SECONDS = 180
"""For which an idle connection is kept: longer than proxies keep theirs (Caddy 120, ingress-nginx 60), so that none
sends a request on a connection that is being closed here."""


def api_command(host: str, port: int) -> list[str]:
    """The command line of the API server."""
    return [
        *(sys.executable, "-m", "uvicorn", "--factory", "darkroom.app.main:application"),
        *("--host", host, "--port", str(port)),
        *("--timeout-graceful-shutdown", "20", "--no-access-log"),
        *("--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)),
    ]


def worker_commands() -> dict[str, list[str]]:
    """The command lines of what runs the jobs, by name: the worker and the reconciler."""
    modules = {"worker": "darkroom.worker.celery_app", "reconciler": "darkroom.worker.reconciler"}
    return {name: [sys.executable, "-m", module] for name, module in modules.items()}


def reached_at(host: str) -> str:
    """DARKROOM_HOST of a service that listens on `host`: behind a proxy that reaches it on loopback, the operator may
    say where others do."""
    return os.environ.get("DARKROOM_HOST", host) if is_loopback(host) else host


def become(command: list[str]) -> NoReturn:
    """Go on as this command, so that signals and exit code are its own."""
    os.execv(command[0], command)
