"""A protocol: the facts of how and on what a figure was measured, their digest, and one line of them for people."""

import json
from collections.abc import Mapping

from pydantic import FiniteFloat

from darkroom.model.digest import digest_of

Facts = Mapping[str, str | int | FiniteFloat | None]
"""How and on what a figure or a set of statistics was measured. Values with equal facts can be compared."""

DIGITS_SHOWN = 12
"""Hexadecimal digits of a SHA-256 that are shown. `protocol_digest` is computed over all 64."""

_FIRST = ("metric", "extractor", "extractor_weights_digest", "reference_dataset_digest", "reference_split", "weights")


def protocol_digest(protocol: Facts) -> str:
    """Return "sha256:..." of the protocol as canonical JSON: sorted keys, no blanks, ASCII."""
    return digest_of(json.dumps(dict(protocol), sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def protocol_string(protocol: Facts) -> str:
    """Return the protocol as one line, "fid-efficientnet-lite0; extractor=efficientnet-lite0; ...; steps=20".

    Facts that are None have no effect and are left out; digests are shortened. The order is fixed, so that equal
    protocols give equal lines.
    """
    told = {name: _shown(value) for name, value in protocol.items() if value is not None}
    names = [name for name in _FIRST if name in told] + sorted(told.keys() - set(_FIRST))
    return "; ".join(told[name] if name == "metric" else f"{name}={told[name]}" for name in names)


def _shown(value: str | int | float | None) -> str:
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[: len("sha256:") + DIGITS_SHOWN]
    return str(value)


def canonical(value: object) -> str | int | float | None:
    """Return a setting's plain data as a fact: numbers, texts and None unchanged, anything else as canonical JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
