"""Receives the body of an upload into a file."""

import asyncio
import errno
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile
from typing import BinaryIO

from fastapi import Request

from darkroom.app.http.problems import Problem

_WRITE_BYTES = 1 << 20

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

log = logging.getLogger(__name__)


@contextmanager
def storage_full_as_problem() -> Iterator[None]:
    """Turn the OSError of a full disk, in the block, into Problem (507)."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        log.error("the disk is too full for an upload: %s", error)
        detail = "the service's disk is too full for this upload; ask the operator for more space"
        raise Problem(507, "storage-full", detail) from error


def media_type(content_type: str) -> str:
    """Return a Content-Type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def require_file_itself(request: Request) -> None:
    """Raise Problem (415) for a form: the body must be the file."""
    if media_type(request.headers.get("content-type", "")) == "multipart/form-data":
        raise file_in_a_form()


def file_in_a_form() -> Problem:
    """Return the refusal (415) of a form with a file that must be the body itself."""
    detail = "send the file itself as the body, not a form: curl --data-binary @FILE"
    return Problem(415, "unsupported-media-type", detail)


async def each_chunk(request: Request, take: Callable[[bytes], object]) -> None:
    """Call `take` with the body, about a mebibyte at a time, in a thread."""
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= _WRITE_BYTES:
            await asyncio.to_thread(take, bytes(waiting))
            waiting.clear()
    await asyncio.to_thread(take, bytes(waiting))


async def received(request: Request) -> tuple[BinaryIO, str]:
    """Receive the body into a file without a name, which disappears even if this process is killed.

    Returns the file and the SHA-256 of its content, as hexadecimal digits.
    """
    with storage_full_as_problem(), ExitStack() as until_handed_over:
        file = until_handed_over.enter_context(TemporaryFile())
        hasher = hashlib.sha256()

        def take(chunk: bytes) -> None:
            hasher.update(chunk)
            file.write(chunk)

        await each_chunk(request, take)
        file.flush()
        until_handed_over.pop_all()
        return file, hasher.hexdigest()
