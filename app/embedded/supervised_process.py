"""Restarts child processes that have ended, such as the worker; the service can run without them for a while."""

import time
from collections.abc import Callable

from darkroom.app.embedded.process import ChildProcess


class SupervisedProcess:
    """A child process that is restarted when it ends.

    At least `spacing_seconds` pass between two starts, so that a child that cannot run does not fill the terminal.
    """

    def __init__(
        self, start: Callable[[], ChildProcess], *, spacing_seconds: float, say: Callable[[str], None]
    ) -> None:
        self._start = start
        self._spacing_seconds = spacing_seconds
        self._say = say
        self._started = time.monotonic()
        self._announced = False
        self.child = start()

    def restart_if_due(self) -> None:
        """Restart the child if it has ended and `spacing_seconds` have passed. Announces each end once."""
        fate = self.child.fate()
        if fate is None:
            return
        if not self._announced:
            self._announced = True
            self._say(f"{self.child.name} {fate}; restarting it (log: {self.child.log})")
        if time.monotonic() - self._started >= self._spacing_seconds:
            self._started = time.monotonic()
            self._announced = False
            try:
                self.child = self._start()
            except OSError as error:  # a full disk, or too many processes: try again later
                self._say(f"{self.child.name} cannot start: {error}")
