"""Helpers for tests of running processes: free ports, waiting, signals, and descendants."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

PATIENCE_SECONDS = 180.0
"""After this time a test fails because something hangs. No test checks a shorter time."""

SHORTEST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5
"""Bounds of the pause between two checks of a condition."""


def pass_on_no_ignored_signal() -> None:
    """Let child processes take signals that this process ignores because of `nohup`, or `&` in a script.

    Otherwise a test that interrupts a child would wait for ever. This process keeps ignoring them.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)  # unlike SIG_IGN, a handler is not inherited


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """Return the first of so many consecutive ports of 127.0.0.1 on which nobody listens."""
    while True:
        first = free_port()
        with ExitStack() as held, suppress(OSError, OverflowError):
            for port in range(first, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition is true, or fail after PATIENCE_SECONDS. It rests four times as long as a check took."""
    began = time.monotonic()
    while True:
        looked = time.monotonic()
        if condition():
            return
        assert looked - began < PATIENCE_SECONDS, f"never: {what}"
        pause = 4.0 * (time.monotonic() - looked)
        time.sleep(min(max(SHORTEST_PAUSE_SECONDS, pause), LONGEST_PAUSE_SECONDS))


def family_of(pid: int) -> set[int]:
    """Return the process and all its descendants."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    family = {pid}
    while grown := {child for child, parent in pairs if parent in family} - family:
        family |= grown
    return family


def living(pids: set[int]) -> set[int]:
    """Return the processes that still run. A zombie does not."""
    listed = ",".join(map(str, sorted(pids)))
    table = subprocess.run(["ps", "-o", "pid=,stat=", "-p", listed], check=False, capture_output=True, text=True)
    return {int(pid) for pid, state in map(str.split, table.stdout.splitlines()) if not state.startswith("Z")}
