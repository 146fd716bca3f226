"""API keys: create, find, change and revoke them, and limit their unfinished jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from darkroom.store.audit_repository import Actor, record
from darkroom.store.clock import seconds
from darkroom.store.job_repository import UNFINISHED
from darkroom.store.tables import ApiKey, Job, Scope

LAST_USED_SECONDS = 60.0
"""The last use is stored at most this often, because a write would be the slowest part of every request."""


class KeyNotFound(LookupError):
    """There is no such key."""

    def __init__(self, key: int | str) -> None:
        super().__init__(f"there is no API key {key}")


class TooManyJobs(RuntimeError):
    """The key already has as many unfinished jobs as it may have, or would with `more`."""

    def __init__(self, unfinished: int, limit: int, more: int) -> None:
        super().__init__(f"this key has {unfinished} unfinished jobs, and may have {limit}")
        self.limit = limit
        self.more = more


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of a key, named like the columns of `ApiKey`. None stands for the service's default.

    priority: the highest of its jobs. devices: the most of one job.
    """

    requests_per_minute: int | None = None
    images_per_day: int | None = None
    network_rows_per_day: int | None = None
    unfinished_jobs: int | None = None
    stored_bytes: int | None = None
    priority: int | None = None
    devices: int | None = None


def limits_of(key: ApiKey) -> KeyLimits:
    """The limits that a key's record holds."""
    return KeyLimits(**{field.name: getattr(key, field.name) for field in fields(KeyLimits)})


def create_key(
    session: Session,
    actor: Actor,
    *,
    name: str,
    prefix: str,
    digest: bytes,
    scopes: Sequence[Scope],
    limits: KeyLimits,
    group: str | None = None,
    expires_in: timedelta | None = None,
) -> ApiKey:
    """Add a key. prefix, digest: of its token (`app/access/token.py`). expires_in: from now on the database's clock.

    group: whose keys own models and data sets together.
    """
    key = ApiKey(
        name=name,
        prefix=prefix,
        digest=digest,
        scopes=list(scopes),
        group_name=group,
        **asdict(limits),
        expires_at=None if expires_in is None else func.now() + expires_in,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    expires_at = None if key.expires_at is None else key.expires_at.isoformat()
    facts: dict[str, Any] = {"name": name, "prefix": prefix, "scopes": list(scopes), "expires_at": expires_at}
    facts |= {} if group is None else {"group": group}
    record(session, actor, "key.created", f"keys/{key.id}", facts)
    return key


def revoke_key(session: Session, actor: Actor, key_id: int) -> ApiKey:
    """Revoke a key for good. A second call changes nothing. Raises KeyNotFound."""
    key = _locked(session, key_id)
    if key.revoked_at is None:
        key.revoked_at = session.scalar(select(func.now()))
        record(session, actor, "key.revoked", f"keys/{key.id}", {"name": key.name, "prefix": key.prefix})
    return key


def change_key(session: Session, actor: Actor, key_id: int, changes: Mapping[str, int | str | None]) -> ApiKey:
    """Set some of a key's limits, by field name of KeyLimits, and `group_name`. Raises KeyNotFound.

    None sets the service's default, and no group.
    """
    key = _locked(session, key_id)
    told = {name: {"from": getattr(key, name), "to": value} for name, value in changes.items()}
    told = {name: change for name, change in told.items() if change["from"] != change["to"]}
    if told:
        for name, change in told.items():
            setattr(key, name, change["to"])
        record(session, actor, "key.changed", f"keys/{key.id}", {"name": key.name, "prefix": key.prefix, **told})
    return key


def _locked(session: Session, key_id: int) -> ApiKey:
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None:
        raise KeyNotFound(key_id)
    return key


def find_key(session: Session, prefix: str) -> ApiKey | None:
    """The key whose token begins with this prefix, or None."""
    return session.scalars(select(ApiKey).where(ApiKey.prefix == prefix)).one_or_none()


def list_keys(session: Session, before: int | None = None, limit: int = 50) -> Sequence[ApiKey]:
    """Up to `limit` keys, with revoked ones, newest first, with ids below `before`."""
    query = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ApiKey.id < before)
    return session.scalars(query).all()


def keys_exist(session: Session) -> bool:
    """True when a key exists that was not revoked. Expired keys count, so that time alone never opens the service."""
    return bool(session.scalar(select(exists().where(ApiKey.revoked_at.is_(None)))))


def keys_existed(session: Session) -> bool:
    """True when a key was ever created, because revoked keys keep their records."""
    return bool(session.scalar(select(exists(select(ApiKey.id)))))


def note_use(session: Session, key_id: int) -> None:
    """Set last_used_at, unless it was set within the last minute."""
    session.execute(
        update(ApiKey)
        .where(
            ApiKey.id == key_id,
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - seconds(LAST_USED_SECONDS)),
        )
        .values(last_used_at=func.now())
    )


def require_room_for_jobs(session: Session, key_id: int, more: int, limit: int) -> None:
    """Raise TooManyJobs unless the key may have `more` unfinished jobs.

    A generate job counts as one, and so does each job of a sweep. The key's record stays locked until the transaction
    ends, so that two requests cannot both take the last place. Call it before locking any job.
    """
    session.execute(select(ApiKey.id).where(ApiKey.id == key_id).with_for_update(key_share=True))
    one = func.coalesce(-Job.generate_job_id, Job.id)  # ids begin at 1, so the two never collide
    unfinished = session.scalar(
        select(func.count(one.distinct())).where(Job.api_key_id == key_id, Job.status.in_(UNFINISHED))
    )
    if (unfinished or 0) + more > limit:
        raise TooManyJobs(unfinished or 0, limit, more)
