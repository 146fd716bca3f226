"""Notices the signal to end before uvicorn does, which would close its sockets at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticing_stop(notice: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Within the block, the first SIGINT or SIGTERM calls `notice` in place of its earlier handler.

    notice: gets a function that calls the earlier handler. A further signal goes to its earlier handler at once.
    Does nothing outside the main thread, where Python allows no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    noticed = False

    def handle(kind: int, frame: FrameType | None) -> None:
        nonlocal noticed
        then = before[signal.Signals(kind)]
        assert callable(then)  # else this handler was not set
        if noticed:
            then(kind, frame)
        else:
            noticed = True
            notice(lambda: then(kind, frame))

    for kind, then in before.items():
        if callable(then):
            signal.signal(kind, handle)
    try:
        yield
    finally:
        for kind, then in before.items():
            if callable(then):
                signal.signal(kind, then)
