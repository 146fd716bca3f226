"""Errors that the user can correct, and how a command reports one: a line on stderr and exit code 2."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_CODE = 2
"""Shells and click use the same code for a command that was called wrongly."""

_CURES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EACCES: "choose another place, or give this user access",
    errno.EPERM: "choose another place, or give this user access",
    errno.EROFS: "choose another place",
}


class UserError(Exception):
    """An error that the user can correct. The message says what is wrong, where, and what to do now."""


@contextmanager
def ending_in_one_line(*more: type[Exception]) -> Iterator[None]:
    """End the process with one line and exit code 2 when the block raises a UserError or an OSError about a file.

    Any other error is a fault of the program and keeps its traceback. more: other errors to treat like a UserError.
    """
    try:
        yield
    except Exception as error:
        line = _line(error, more)
        if line is None:
            raise
    else:
        return
    print(f"error: {line}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_CODE)


def _line(error: Exception, more: tuple[type[Exception], ...]) -> str | None:
    """Return what to print; None for an error that the user cannot correct."""
    if isinstance(error, (UserError, *more)):
        return str(error)
    if isinstance(error, UnicodeEncodeError) and any("\ud800" <= one <= "\udfff" for one in error.object):
        # Python holds undecodable bytes of an argument as surrogates
        return f"{error.object[:100].encode(errors='backslashreplace').decode()!r} is not valid UTF-8"
    if isinstance(error, OSError) and error.strerror and (error.filename is not None or error.errno in _CURES):
        place = "" if error.filename is None else f"{error.filename}: "
        cure = f"; {_CURES[error.errno]}" if error.errno in _CURES else ""
        return f"{place}{error.strerror}{cure}"
    return None


def fault_text(fault: Any) -> str:
    """Return what pydantic says of one fault, in the words of the check that found it."""
    return str(fault["msg"]).removeprefix("Value error, ")
