"""Tests a worker's device. It never imports torch: a process of its own asks the driver (`device_probe.py`)."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

TIMEOUT_SECONDS = 30.0
KEPT_SECONDS = 60.0
"""For so long a test's result is used."""

PROBE = (sys.executable, "-P", "-m", "darkroom.worker.device_probe")


class DeviceCheck:
    """Tests the device of one worker, and remembers the result. Safe to share between threads.

    devices: how many must work; 0 for a worker on a CPU, which is never tested. command: the program of the test; the
    arguments of `worker.device_probe` are added.
    """

    def __init__(
        self, devices: int, command: Sequence[str] = PROBE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._devices = devices
        self._command = command
        self._clock = clock
        self._lock = threading.Lock()
        self._tested_at = -float("inf")
        self._ask_torch = False
        self._hung: subprocess.Popen[str] | None = None
        self.fault: str | None = "it was not tested yet" if devices else None

    def passes(self) -> bool:
        """True when the device works. Tests it when the last result is older than KEPT_SECONDS."""
        with self._lock:
            if self._devices and self._clock() - self._tested_at >= KEPT_SECONDS:
                self.fault = self._probe()
                self._tested_at = self._clock()
                self._ask_torch = self._ask_torch and self.fault is not None
            return self.fault is None

    def doubt(self) -> None:
        """Drop the last result, because work has ended badly."""
        with self._lock:
            self._tested_at = -float("inf")

    def fail(self, fault: str) -> None:
        """Count a work process that found no device as a failed test. From then on a test must satisfy torch, too."""
        with self._lock:
            self.fault = fault
            self._tested_at = self._clock()
            self._ask_torch = True

    def _probe(self) -> str | None:
        """Run the test; returns the fault, or None."""
        if (
            self._hung is not None and self._hung.poll() is None
        ):  # not even SIGKILL ends a process that waits for a driver
            return self.fault
        arguments = [str(self._devices), *(["--torch"] if self._ask_torch else [])]
        process = subprocess.Popen(
            [*self._command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            said, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            self._hung = process
            return f"its driver does not answer within {TIMEOUT_SECONDS:g} s"
        if process.returncode == 0:
            return None
        return said.strip() or f"the test of its device ended with code {process.returncode}"
