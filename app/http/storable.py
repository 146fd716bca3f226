"""Refuses request bodies that hold values no database column can store."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from darkroom.app.http.problems import invalid, pointer_part

DEEPEST_NESTING = 16


def require_storable(body: BaseModel) -> None:
    """Raise Problem (422) if the body holds NUL, a lone surrogate, a number that is not finite, or nests too deeply."""
    faults = list(_unstorable(body.model_dump()))
    if faults:
        raise invalid(faults)


def _unstorable(value: Any, pointer: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > DEEPEST_NESTING:
        yield pointer, f"is nested more than {DEEPEST_NESTING} levels deep"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if _is_unstorable_text(key):
                yield pointer, "has a name with NUL or a lone surrogate, which cannot be stored"
            else:
                yield from _unstorable(inner, f"{pointer}/{pointer_part(key)}", depth + 1)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _unstorable(inner, f"{pointer}/{place}", depth + 1)
    elif isinstance(value, str) and _is_unstorable_text(value):
        yield pointer, "contains NUL or a lone surrogate, which cannot be stored"
    elif isinstance(value, float) and not math.isfinite(value):
        yield pointer, "must be a finite number"


def _is_unstorable_text(text: str) -> bool:
    return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
