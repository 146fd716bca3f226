"""Transactions of a work process: while the database is away they are tried again."""

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
    """What `action` returns, run in one transaction; it may run several times, also after a commit that got no answer.

    Waits as long as the database is away: should the claim be over by then, `worker.watchdog` ends the process. Raises
    what `action` raises.
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
    """Whether the database did not answer, so that the same may succeed later. A full disk is not that."""
    if isinstance(error.orig, psycopg.errors.DiskFull):
        return False
    return error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError)
