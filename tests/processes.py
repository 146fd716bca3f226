"""What tests of running processes share: a free port, patience, signals, and who descends from whom."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable

PATIENCE_SECONDS = 180.0
"""Beyond this something hangs; no test depends on how much sooner it comes."""


def pass_on_no_ignored_signal() -> None:
    """Let processes that are started from here take signals that this one was started to ignore (`nohup`, `&` in a
    script): a test that interrupts one would wait for ever. This process goes on ignoring them.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)  # unlike SIG_IGN, a handler is not inherited


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, *, every_seconds: float = 0.01) -> None:
    """Wait for something that must come about. every_seconds: between two looks, which cost something themselves."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(every_seconds)


def family_of(pid: int) -> set[int]:
    """The process and all that descend from it."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    family = {pid}
    while grown := {child for child, parent in pairs if parent in family} - family:
        family |= grown
    return family


def living(pids: set[int]) -> set[int]:
    """Those that still run; a zombie has ended."""
    listed = ",".join(map(str, sorted(pids)))
    table = subprocess.run(["ps", "-o", "pid=,stat=", "-p", listed], check=False, capture_output=True, text=True)
    return {int(pid) for pid, state in map(str.split, table.stdout.splitlines()) if not state.startswith("Z")}
