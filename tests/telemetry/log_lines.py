"""Captures the log lines of a process."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from darkroom.telemetry.logs import LogSettings, set_up_logs

Line = dict[str, Any]


class Written(io.StringIO):
    """A stream that collects log lines."""

    def lines(self) -> list[str]:
        """Return all complete lines so far."""
        return self.getvalue().rpartition("\n")[0].splitlines()

    def parsed(self) -> list[Line]:
        """Return all complete lines so far, parsed as JSON."""
        return [json.loads(line) for line in self.lines()]


@contextmanager
def logging_to(process: str = "api", **settings: Any) -> Iterator[Written]:
    """Let this process log like the process of that name while the block runs; JSON by default."""
    stream, root = Written(), logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers.clear()  # pytest's handlers keep messages for a report that fails on a lone surrogate
    set_up_logs(process, LogSettings(**({"log_format": "json"} | settings)), stream)
    try:
        yield stream
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
