"""Whole numbers in paths, queries and headers: digits alone, because Python also reads "1_0" and " 10" as 10."""

from typing import Any

from pydantic import BeforeValidator


def _require_digits(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdigit()):
        raise ValueError("must be a whole number, written in digits")
    return value


DIGITS = BeforeValidator(_require_digits)
"""In the Annotated type of a parameter."""
