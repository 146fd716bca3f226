"""Children that the service can do without for a while: whichever ends is started again, and it is said."""

import time
from collections.abc import Callable

from darkroom.app.embedded.process import ChildProcess


class Restarted:
    """A child process that is started again when it ends, but not sooner than `spacing_seconds` after its last start,
    so that one that cannot run takes up neither the machine nor the terminal."""

    def __init__(
        self, start: Callable[[], ChildProcess], *, spacing_seconds: float, say: Callable[[str], None]
    ) -> None:
        self._start = start
        self._spacing_seconds = spacing_seconds
        self._say = say
        self._started = time.monotonic()
        self._told = False
        self.child = start()

    def look(self) -> None:
        """Start it again if it has ended and it is time."""
        fate = self.child.fate()
        if fate is None:
            return
        if not self._told:
            self._told = True
            self._say(f"{self.child.name} {fate} and is started again; its log is {self.child.log}")
        if time.monotonic() - self._started >= self._spacing_seconds:
            self._started = time.monotonic()
            self._told = False
            self.child = self._start()
