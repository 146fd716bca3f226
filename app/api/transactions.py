"""A request's work in the database: one transaction in a thread, and the store's refusals as problems."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from app.api.idempotency import key_reused
from app.api.problems import Problem, retry_after
from app.api.services import Services
from model.digest import digest_of
from store.idempotency import IdempotencyKeyReused, remember, settle
from store.job_repository import JobConflict, JobNotFound
from store.key_repository import KeyNotFound, TooManyJobs
from store.sweep_repository import SweepNotFound

T = TypeVar("T")

JOBS_RETRY_SECONDS = 60
"""Jobs take minutes at least; nobody knows when the next one ends."""


async def in_store(services: Services, action: Callable[[Session], T]) -> T:
    """Run the action in a transaction; raises Problem, and the database's errors, which are answered with 503."""
    database = services.store

    def run() -> T:
        with database.session() as session:
            return action(session)

    try:
        return await asyncio.to_thread(run)
    except JobNotFound as error:
        raise Problem(404, "no-such-job", str(error)) from error
    except SweepNotFound as error:
        raise Problem(404, "no-such-sweep", str(error)) from error
    except KeyNotFound as error:
        raise Problem(404, "no-such-key", str(error)) from error
    except TooManyJobs as error:
        services.gate.refused("jobs_limit")
        raise Problem(429, "jobs-limit", str(error), headers=retry_after(JOBS_RETRY_SECONDS)) from error
    except JobConflict as error:
        raise Problem(409, "job-conflict", str(error)) from error
    except IdempotencyKeyReused as error:
        raise key_reused(error) from error


def once(session: Session, scope: str, key: str | None, request: str, create: Callable[[], int]) -> tuple[int, bool]:
    """The id of what the request creates, and whether it is new: under a key it is created once.

    request: all that decides what is created. Raises store.idempotency.IdempotencyKeyReused.
    """
    if key is None:
        return create(), True
    known = remember(session, scope, key, digest_of(request.encode()))
    if known is not None:
        return known, False
    created = create()
    settle(session, scope, key, created)
    return created, True
