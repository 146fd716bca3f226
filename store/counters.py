"""Totals for Prometheus. The transaction of an event also counts it."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.tables import Counter


def count(session: Session, name: str, label: str = "", by: float = 1.0) -> None:
    """Add to a counter. Call it late in a transaction: others that count the same wait for the end."""
    session.flush()
    new = upsert(Counter).values(name=name, label=label, value=by)
    session.execute(
        new.on_conflict_do_update(
            index_elements=[Counter.name, Counter.label], set_={"value": Counter.value + new.excluded.value}
        )
    )


def read_counters(session: Session) -> Mapping[tuple[str, str], float]:
    """All counters by name and label."""
    return {(row.name, row.label): row.value for row in session.scalars(select(Counter))}
