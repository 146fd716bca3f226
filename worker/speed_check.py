"""Measures a worker's speed while it has no job, for plans. A process of its own trains (`speed_probe.py`)."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)

PROBE = (sys.executable, "-P", "-m", "darkroom.worker.speed_probe")


class SpeedCheck:
    """Measures the speed of one worker, once. Safe to share between threads.

    rates: what was measured (`model.planning.scaled_speed.Rate` as plain data); None before. command: the program that
    measures, to which the number of this process is added; None measures nothing.
    """

    def __init__(self, command: Sequence[str] | None) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.rates: list[dict[str, Any]] | None = None

    def begin(self) -> None:
        """Measure in the background, unless that was done, failed, or is under way."""
        with self._lock:
            if self._command is None or self._process is not None or self.rates is not None:
                return
            command = [*self._command, str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            threading.Thread(target=self._read, args=(self._process,), name="speed", daemon=True).start()

    def interrupt(self) -> None:
        """Stop measuring, because a job needs the device. The next `begin` goes on with what is missing."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process = None

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        said, _ = process.communicate()
        with self._lock:
            if self._process is not process:
                return  # interrupted
            self._process = None
            try:
                self.rates = json.loads(said) if process.returncode == 0 else None
            except ValueError:
                self.rates = None
            if self.rates is None:
                self._command = None
                log.warning("the speed of this worker could not be measured (exit code %d)", process.returncode)
