"""Loops in the background that no error ends: every thread of the API and the worker that runs for long is one."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE_SECONDS = 1.0
"""Pause after an error."""

log = logging.getLogger(__name__)


@contextmanager
def surviving(name: str) -> Iterator[None]:
    """Log an error of the block, which ends with it. name: of the loop to which the block belongs."""
    try:
        yield
    except Exception:
        log.exception("%s: an error, after which it goes on", name)


def start_loop(
    name: str, one_round: Callable[[], object], ended: Callable[[], bool] = lambda: False
) -> threading.Thread:
    """Start a daemon thread that calls `one_round` until `ended` returns True. `one_round` does its own waiting.

    An error is logged, and the next round begins PAUSE_SECONDS later. Log lines have the caller's fields.
    """

    def run() -> None:
        while not ended():
            with surviving(name):
                one_round()
                continue
            time.sleep(PAUSE_SECONDS)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    return thread
