"""The newest news of a piece of work that another thread or process does, and whether anybody still wants it."""

import os
import weakref

from pydantic import BaseModel, Field, ValidationError

_BYTES = 512
_MOST = 2**53


class News(BaseModel):
    """Says what is being done, how much of it is done, and of how much. total: None when nobody knows."""

    what: str = Field(max_length=100)
    done: int = Field(ge=0, le=_MOST)
    total: int | None = Field(ge=0, le=_MOST)


class Unwanted(Exception):
    """Nobody waits for the work any more."""


class ProgressBoard:
    """Holds the newest news in a file in memory, whose descriptor a child process can get.

    descriptor: of the board of the parent process; None makes a new board.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("progress")
            weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def write(self, what: str, done: int, total: int | None) -> None:
        """Put the news in place of the last ones (an `OnProgress`). Raises Unwanted after `stop`."""
        if os.pread(self._descriptor, 1, _BYTES):
            raise Unwanted
        news = News(what=what, done=done, total=total)
        os.pwrite(self._descriptor, news.model_dump_json().encode().ljust(_BYTES), 0)

    def stop(self) -> None:
        """Let the work end at its next news."""
        os.pwrite(self._descriptor, b"!", _BYTES)

    def read(self) -> News | None:
        """Return the newest news; None before the first ones, or where the child wrote something else."""
        try:
            return News.model_validate_json(os.pread(self._descriptor, _BYTES, 0))
        except ValidationError:
            return None
