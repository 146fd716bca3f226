"""Transactions of a work process, which tries them again while the database is away."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from darkroom.store.database import Database, DatabaseAway, DatabaseBusy, DatabaseFull

RETRY_SECONDS = 0.5

MOST_GIVEN_UP = 10
"""After so many tries that the server gave up, the transaction fails. (While no server answers, the lease is the limit,
and `worker.watchdog` ends the process.)"""

T = TypeVar("T")

log = logging.getLogger(__name__)


def transact(database: Database, action: Callable[[Session], T]) -> T:
    """Run `action` in one transaction and return its result. It may run again, even after a commit that got no answer.

    Waits while the database is away. If the claim ends meanwhile, `worker.watchdog` ends the process.
    Raises the errors of `action`, DatabaseFull, and DatabaseBusy after MOST_GIVEN_UP tries.
    """
    given_up = 0
    while True:
        try:
            with database.session() as session:
                return action(session)
        except DatabaseFull:
            raise
        except DatabaseAway as error:
            given_up += isinstance(error, DatabaseBusy)
            if given_up == MOST_GIVEN_UP:
                raise
            log.warning("the database is away, trying again: %s", error)
            time.sleep(RETRY_SECONDS)
