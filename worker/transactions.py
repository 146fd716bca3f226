"""Transactions of a work process, which tries them again while the database is away."""

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from darkroom.store.database import Database, DatabaseAway, DatabaseBusy, DatabaseFull
from darkroom.store.places import ArtifactsAway

RETRY_SECONDS = 0.5

ARTIFACTS_RETRY_SECONDS = 5.0
"""Each try hashes the bytes anew."""

MOST_GIVEN_UP = 10
"""After so many tries that the server gave up, the transaction fails. (While no server answers, the lease is the limit,
and `worker.watchdog` ends the process.)"""

ARTIFACTS_PATIENCE_SECONDS = 3600.0
"""A transaction fails after it has waited so long for the storage of artifacts. The lease does not lapse meanwhile."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def transact(database: Database, action: Callable[[Session], T]) -> T:
    """Run `action` in one transaction and return its result. It may run again, even after a commit that got no answer.

    Waits while the database is away. If the claim ends meanwhile, `worker.watchdog` ends the process.
    Raises the errors of `action`, DatabaseFull, DatabaseBusy after MOST_GIVEN_UP tries, and ArtifactsAway after
    ARTIFACTS_PATIENCE_SECONDS.
    """
    given_up, artifacts_away_since = 0, math.inf
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
            artifacts = isinstance(error, ArtifactsAway)
            if artifacts:
                artifacts_away_since = min(artifacts_away_since, time.monotonic())
                if time.monotonic() - artifacts_away_since >= ARTIFACTS_PATIENCE_SECONDS:
                    raise
            log.warning("the %s, trying again: %s", "artifacts are away" if artifacts else "database is away", error)
            time.sleep(ARTIFACTS_RETRY_SECONDS if artifacts else RETRY_SECONDS)
