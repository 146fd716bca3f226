"""Totals for Prometheus. The transaction of an event also counts it.

A total is the sum of rows, one for each slot. A transaction adds to the row of its connection, which runs no other one
meanwhile. With one row for all, each would wait for the commits of the others.
"""

from collections.abc import Mapping

from sqlalchemy import func, select, union_all
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.tables import Counter, CounterSlot

SLOTS = 256


def count(session: Session, name: str, label: str = "", by: float = 1.0) -> None:
    """Add to a counter. Call it late in a transaction: some others that count the same wait for the end."""
    session.flush()
    new = upsert(CounterSlot).values(name=name, label=label, slot=func.pg_backend_pid() % SLOTS, value=by)
    key = [CounterSlot.name, CounterSlot.label, CounterSlot.slot]
    session.execute(
        new.on_conflict_do_update(index_elements=key, set_={"value": CounterSlot.value + new.excluded.value})
    )


def read_counters(session: Session) -> Mapping[tuple[str, str], float]:
    """All counters by name and label, in one statement: read in two, a total could fall."""
    both = union_all(
        select(Counter.name, Counter.label, Counter.value),
        select(CounterSlot.name, CounterSlot.label, CounterSlot.value),
    ).subquery()
    total = select(both.c.name, both.c.label, func.sum(both.c.value)).group_by(both.c.name, both.c.label)
    return {(name, label): value for name, label, value in session.execute(total)}
