"""What a process would log, line by line."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from darkroom.telemetry.logs import LogSettings, set_up_logs

Line = dict[str, Any]


class Written(io.StringIO):
    """A stream of lines."""

    def lines(self) -> list[str]:
        """All so far; one that is being written is none yet."""
        return self.getvalue().rpartition("\n")[0].splitlines()

    def parsed(self) -> list[Line]:
        """All so far, of JSON."""
        return [json.loads(line) for line in self.lines()]


@contextmanager
def logging_to(process: str = "api", **settings: Any) -> Iterator[Written]:
    """While the block runs, this process logs as one of that name does; JSON unless settings say otherwise."""
    stream, root = Written(), logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers.clear()  # pytest's own keep every message for a report, which cannot take a lone surrogate
    set_up_logs(process, LogSettings(**({"log_format": "json"} | settings)), stream)
    try:
        yield stream
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
