"""Ends a work process when its claim ends, so that two attempts at one job never run at the same time."""

import logging
import os
import time
from typing import NoReturn

from darkroom.store.database import Database
from darkroom.store.job_repository import Lease, LeaseLost, lease_seconds_left
from darkroom.telemetry.loops import start_loop

LEASE_LOST = 75
"""Exit code of a process whose claim is over."""

LONGEST_SLEEP_SECONDS = 5.0
SHORTEST_SLEEP_SECONDS = 0.05

log = logging.getLogger(__name__)


def end_with_lease(database: Database, lease: Lease) -> None:
    """Watch the lease from a thread of its own, and end the process when it lapses or another attempt begins.

    While it cannot be read, the lease ends at the time that was read last.
    """
    deadline: float | None = None

    def look() -> None:
        nonlocal deadline
        asked = time.monotonic()
        try:
            with database.reading() as session:
                deadline = asked + lease_seconds_left(session, lease)
        except LeaseLost as lost:
            end_process(str(lost))
        except Exception as error:  # whatever it is, the lease may lapse meanwhile
            log.warning("the lease cannot be read: %s", error)
        left = LONGEST_SLEEP_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0.0:
            end_process("the lease has lapsed")
        # Several looks within a lease, and few while it is long: each costs the training a little time.
        time.sleep(min(LONGEST_SLEEP_SECONDS, max(SHORTEST_SLEEP_SECONDS, left / 4.0)))

    start_loop("watchdog", look)


def end_process(why: str) -> NoReturn:
    """End this process at once, whatever its threads do, because its claim is over."""
    log.warning("%s; this process ends", why)
    os._exit(LEASE_LOST)
