"""Options of the form NAME=VALUE, such as `--set seed=3`."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from darkroom.model.user_error import UserError


def assignments(options: Sequence[str], form: str = "NAME=VALUE", given: Collection[str] = ()) -> dict[str, Any]:
    """Turn ["seed=3", "threshold=none"] into {"seed": 3, "threshold": "none"}: a value is JSON, else a plain word.

    form: how to write an option, for the error about one without "=". given: names that other options set.
    Raises UserError, also when a name is set twice.
    """
    found: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--set {option}: write {form}")
        if name in found or name in given:
            raise UserError(f"--set {option}: {name} is set twice; leave one out")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
