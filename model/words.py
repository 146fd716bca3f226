"""Numbers and names of things in messages."""

from collections.abc import Sequence


def several(number: float, thing: str) -> str:
    """Return a number and its thing for people: "1 image", "2,000 images", "3 classes"."""
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{ending}"


def named(classes: Sequence[str], most: int = 5) -> str:
    """Return the names of classes for people: the first ones, and how many more."""
    more = f" and {len(classes) - most:,} more" if len(classes) > most else ""
    return ", ".join(classes[:most]) + more
