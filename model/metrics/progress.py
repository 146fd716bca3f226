"""The function that a measurement tells its progress."""

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many images of it are done, and of how many."""


def silent(what: str, done: int, total: int) -> None:
    """Take the news and do nothing."""
