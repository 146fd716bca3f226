"""Transactions of a work process, which tries them again while the database is away."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from darkroom.store.database import Database

RETRY_SECONDS = 0.5

T = TypeVar("T")

log = logging.getLogger(__name__)


def transact(database: Database, action: Callable[[Session], T]) -> T:
    """Run `action` in one transaction and return its result. It may run again, even after a commit that got no answer.

    Waits while the database is away. If the claim ends meanwhile, `worker.watchdog` ends the process.
    Raises the errors of `action`.
    """
    while True:
        try:
            with database.session() as session:
                return action(session)
        except DBAPIError as error:
            if not _is_away(error):
                raise
            log.warning("the database is away, trying again: %s", str(error).splitlines()[0])
            time.sleep(RETRY_SECONDS)


def _is_away(error: DBAPIError) -> bool:
    """True when the database did not answer, so that another try may succeed. False for a full disk."""
    if isinstance(error.orig, psycopg.errors.DiskFull):
        return False
    return error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError)
