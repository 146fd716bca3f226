"""Durations on the database's clock."""

from typing import Any

from sqlalchemy import ColumnElement, Interval, cast, literal


def seconds(value: float) -> ColumnElement[Any]:
    """An interval for SQL, to add to a time or subtract from it."""
    return cast(literal(f"{value} seconds"), Interval)
