"""The Idempotency-Key header of requests that create something (`store/idempotency.py`)."""

from typing import Annotated

from fastapi import Header

from app.api.problems import Problem
from store.idempotency import IdempotencyKeyReused

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="the same key again, within 24 hours, creates nothing and answers with what it created before",
    ),
]


def key_reused(error: IdempotencyKeyReused) -> Problem:
    """422: the key came with another request before."""
    return Problem(422, "idempotency-key-reused", str(error))
