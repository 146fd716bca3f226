"""Work commands without torch. Each does almost nothing, and ends as its name says."""

import sys

_PROGRAM = """
import json, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[4])
{body}
(folder / "outcome.json").write_text(json.dumps({{"end": {end!r}, "failure": {failure!r} }}))
"""


def _work(end: str, failure: dict[str, str] | None = None, body: str = "") -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", _PROGRAM.format(end=end, failure=failure, body=body))


FINISHES = _work("finished")
FINDS_NO_DEVICE = _work("failed", {"kind": "no_device", "detail": "torch finds no device"})
CRASHES = _work("finished", body="sys.exit(1)")

IS_SLOW_TO_STOP = _work(
    "stopped",
    body="""
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop", flush=True))
(folder / "pid").write_text(str(__import__("os").getpid()))
while True:
    time.sleep(1.0)
""",
)
"""Prints a line at SIGTERM, and runs for ever."""

STOPS = _work(
    "stopped",
    body="""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
(folder / "pid").write_text(str(__import__("os").getpid()))
signal.sigwait([signal.SIGTERM])
""",
)
"""Ends at SIGTERM, as if it had stored its state."""
SAYS_THREE_LINES = _work("finished", body="print(*'abc', sep=chr(10))")
