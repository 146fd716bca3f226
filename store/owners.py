"""Models, data sets, jobs and sweeps belong to the API key that made them, and to the other keys of its group.

A record without a key belongs to nobody, and everybody may use it: records of a service without keys, of earlier
versions, and those that somebody has shared.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, SQLColumnExpression, select
from sqlalchemy.orm import Session

from darkroom.store.tables import ApiKey, Dataset, GenerateJob, Job, Model, Sweep

Owned = Model | Dataset | Job | Sweep | GenerateJob


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody who may use only some of the records: a key and its group, if it has one."""

    key_id: int
    group: str | None = None


class OwnedByAnother(RuntimeError):
    """The record belongs to another key. what: names it in the message."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} belongs to another key: use a key of its group, one with the scope admin, or another name"
        )


def owned(api_key_id: SQLColumnExpression[int | None], owner: Owner) -> ColumnElement[bool]:
    """Return the condition that a record belongs to the owner, to its group or to nobody."""
    condition = api_key_id.is_(None) | (api_key_id == owner.key_id)
    if owner.group is None:
        return condition
    return condition | api_key_id.in_(select(ApiKey.id).where(ApiKey.group_name == owner.group))


def is_owned(session: Session, record: Owned, owner: Owner | None) -> bool:
    """Return True when the owner may use the record. owner: None for somebody who may use all."""
    if owner is None or record.api_key_id is None or record.api_key_id == owner.key_id:
        return True
    maker = session.get_one(ApiKey, record.api_key_id)
    return owner.group is not None and maker.group_name == owner.group


def require_owned(session: Session, record: Owned, owner: Owner | None) -> None:
    """Raise OwnedByAnother unless the owner may use the record."""
    if not is_owned(session, record, owner):
        raise OwnedByAnother(_named(record))


def _named(record: Owned) -> str:
    match record:
        case Model():
            return f"the model {record.name!r}"
        case Dataset():
            return f"the data set {record.name!r}"
        case Job():
            return f"train job {record.id}"
        case Sweep():
            return f"sweep {record.id}"
        case GenerateJob():
            return f"generate job {record.id}"
