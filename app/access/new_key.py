"""A key as somebody asks for it, its making, and new limits for it."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr
from sqlalchemy.orm import Session

from darkroom.app.access.token import new_token
from darkroom.store.audit_repository import Actor
from darkroom.store.key_repository import KeyLimits, create_key
from darkroom.store.tables import ApiKey, Scope

LARGEST_LIMIT = 2**31 - 1
LONGEST_DAYS = 3650

Limit = Annotated[int, Field(strict=True, le=LARGEST_LIMIT)]


class KeyLimitsRequest(BaseModel):
    """A key's limits. One that is null, or was never given, is the service's default, also when that changes."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Limit | None = Field(None, ge=1)
    images_per_day: Limit | None = Field(None, ge=0, description="drawn ones, those of generate jobs too")
    unfinished_jobs: Limit | None = Field(None, ge=0, description="queued or running at once")

    def changes(self) -> dict[str, int | None]:
        """The limits that were given."""
        return self.model_dump(exclude_unset=True)


class KeyRequest(KeyLimitsRequest):
    """A key to create."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        description="whose it is or what it is for"
    )
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] = Field(
        description="generate: images, and reading models; train: data sets, jobs and sweeps, and reading models; "
        "metrics: /metrics; admin: everything, and keys, aliases and the audit trail"
    )
    expires_in_days: Annotated[float, Field(strict=True, gt=0.0, le=LONGEST_DAYS, allow_inf_nan=False)] | None = Field(
        None, description="default: never"
    )


def make_key(session: Session, actor: Actor, wanted: KeyRequest) -> tuple[ApiKey, str]:
    """Add the key; returns its row and its token, which is nowhere else."""
    new = new_token()
    row = create_key(
        session,
        actor,
        name=wanted.name,
        prefix=new.prefix,
        digest=new.digest,
        scopes=sorted(set(wanted.scopes)),
        limits=KeyLimits(wanted.requests_per_minute, wanted.images_per_day, wanted.unfinished_jobs),
        expires_in=None if wanted.expires_in_days is None else timedelta(days=wanted.expires_in_days),
    )
    return row, new.token
