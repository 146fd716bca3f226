"""Transactions of a work process that may wait: while the database is away they are tried again."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from store.database import Database
from store.job_repository import LeaseLost
from worker.reporter import RETRY_SECONDS, is_away

GIVE_UP_SECONDS = 300.0
"""No claim is taken to stand for so long without a beat. The supervisor, who knows better, ends this process sooner."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def transact(database: Database, action: Callable[[Session], T], *, give_up_seconds: float = GIVE_UP_SECONDS) -> T:
    """What `action` returns, run in one transaction; it may run several times, also after a commit that got no answer.

    Raises what it raises, and LeaseLost when the database was away for `give_up_seconds`.
    """
    began = time.monotonic()
    while True:
        try:
            with database.session() as session:
                return action(session)
        except DBAPIError as error:
            if not is_away(error):
                raise
            if time.monotonic() - began > give_up_seconds:
                raise LeaseLost(f"the database was away for {give_up_seconds:g} s") from error
            log.warning("the database is away, trying again: %s", str(error).splitlines()[0])
            time.sleep(RETRY_SECONDS)
