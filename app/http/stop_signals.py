"""Notices the signal to end before uvicorn does. Streams of events must close then, because uvicorn waits for them."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticing_stop(notice: Callable[[], None]) -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM call `notice` and then their earlier handlers.

    Does nothing outside the main thread, where Python allows no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def handle(kind: int, frame: FrameType | None) -> None:
        notice()
        then = before[signal.Signals(kind)]
        if callable(then):
            then(kind, frame)

    for kind, then in before.items():
        if callable(then):
            signal.signal(kind, handle)
    try:
        yield
    finally:
        for kind, then in before.items():
            if callable(then):
                signal.signal(kind, then)
