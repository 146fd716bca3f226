"""Requests for a new key and for new limits, and the creation of a key."""

from collections.abc import Collection
from dataclasses import fields
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr
from sqlalchemy.orm import Session

from darkroom.app.access.token import new_token
from darkroom.store.audit_repository import Actor
from darkroom.store.key_repository import KeyLimits, create_key
from darkroom.store.tables import ApiKey, Scope

LARGEST_LIMIT = 2**31 - 1
LARGEST_COUNT = 2**53
"""Of rows and bytes: exact in every JSON reader."""
HIGHEST_PRIORITY = 100
LONGEST_DAYS = 3650

Limit = Annotated[int, Field(strict=True, le=LARGEST_LIMIT)]


Name = Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class KeyLimitsRequest(BaseModel):
    """A key's limits and group. A limit that is null or was never given follows the service's default."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Limit | None = Field(None, ge=1)
    images_per_day: Limit | None = Field(None, ge=0, description="drawn images, generate jobs included")
    network_rows_per_day: Annotated[int, Field(strict=True, le=LARGEST_COUNT)] | None = Field(
        None, ge=0, description="network rows of drawn images: a guided step of an image takes two"
    )
    unfinished_jobs: Limit | None = Field(None, ge=0, description="jobs queued or running at the same time")
    stored_bytes: Annotated[int, Field(strict=True, le=LARGEST_COUNT)] | None = Field(
        None, ge=0, description="bytes of its data sets, models and jobs in the store; above that it adds none"
    )
    priority: Limit | None = Field(
        None, ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY, description="the highest of its jobs"
    )
    devices: Limit | None = Field(None, ge=1, description="the most devices of one of its jobs")
    group: Name | None = Field(None, description="keys of one group own models and data sets together; null: none")

    def changes(self) -> dict[str, int | str | None]:
        """Return what the request gives, by the store's names."""
        given = self.model_dump(exclude_unset=True)
        return {"group_name" if name == "group" else name: value for name, value in given.items()}


class KeyRequest(KeyLimitsRequest):
    """A key to create."""

    name: Name = Field(description="the key's holder or purpose")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] = Field(
        description="generate: draw images, read models; train: data sets, jobs and sweeps, read models; "
        "metrics: read /metrics; admin: everything, with keys, aliases and the audit trail"
    )
    expires_in_days: Annotated[float, Field(strict=True, gt=0.0, le=LONGEST_DAYS, allow_inf_nan=False)] | None = Field(
        None, description="default: never"
    )


def closing_notice(scopes: Collection[Scope]) -> str:
    """Return what to tell somebody whose new key has closed an open service. scopes: the key's."""
    closed = "From now on every request needs a key, from this machine too, also after all keys are revoked"
    if "admin" in scopes:
        return f"{closed}."
    return f"{closed}. This key cannot create others: for that, run `darkroom keys create --scopes admin` on the host."


def make_key(session: Session, actor: Actor, wanted: KeyRequest) -> tuple[ApiKey, str]:
    """Store the key. Returns its record and its token, which is stored nowhere."""
    new = new_token()
    row = create_key(
        session,
        actor,
        name=wanted.name,
        prefix=new.prefix,
        digest=new.digest,
        scopes=sorted(set(wanted.scopes)),
        limits=KeyLimits(**{field.name: getattr(wanted, field.name) for field in fields(KeyLimits)}),
        group=wanted.group,
        expires_in=None if wanted.expires_in_days is None else timedelta(days=wanted.expires_in_days),
    )
    return row, new.token
