"""Options of the form NAME=VALUE, such as `--set seed=3`."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from darkroom.model.user_error import UserError


def assignments(options: Sequence[str], form: str = "NAME=VALUE", given: Collection[str] = ()) -> dict[str, Any]:
    """["seed=3", "threshold=none"] as {"seed": 3, "threshold": "none"}: a value is JSON, else a bare word.

    form: what the error for an option without "=" says to write. given: names that other options set. Raises UserError,
    also for a name that is set twice.
    """
    found: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--set {option}: write {form}")
        if name in found or name in given:
            raise UserError(f"--set {option}: {name} is set twice")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
