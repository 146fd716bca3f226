"""Notices early that the server is to end: it waits for open answers, and a stream of events would stay open."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticing_stop(notice: Callable[[], None]) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM call `notice` before they do what they did.

    Outside the main thread, where signals are somebody else's, it does nothing.
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
