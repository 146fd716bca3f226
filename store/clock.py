"""Durations on the database's clock."""

from typing import Any

from sqlalchemy import ColumnElement, Interval, cast, literal


def seconds(value: float) -> ColumnElement[Any]:
    """An interval to add to or subtract from a time."""
    return cast(literal(f"{value} seconds"), Interval)
