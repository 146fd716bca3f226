"""A clean stop on Ctrl-C: the work under way is asked to stop, and is interrupted only by a second Ctrl-C."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self


class StopOnInterrupt:
    """The first Ctrl-C or SIGTERM asks the run to stop after the step under way; a second Ctrl-C interrupts it.

    say: shows a line to the user. It is called between two steps, not by the signal's handler, which may interrupt the
    writing of another line: Python then refuses to write. Python delivers signals to the main thread alone: in any
    other one nothing is asked.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._asked = False
        self._told = False

    def __call__(self) -> bool:
        if self._asked and not self._told:
            self._told = True
            self._say("Stopping after this step and writing a checkpoint. Press Ctrl-C again to give up both.")
        return self._asked

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        kinds = (signal.SIGINT, signal.SIGTERM) if main else ()
        self._before = {kind: signal.signal(kind, self._ask) for kind in kinds}
        return self

    def __exit__(self, *exc: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def _ask(self, kind: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
