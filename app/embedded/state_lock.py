"""One Darkroom a state folder, by a lock that ends with its process."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from app.embedded.process import EmbeddedError


class StateLock:
    """Holds `state`/lock. flock belongs to the open file: whatever kills the process frees it, so no lock is stale.

    previous_was_killed: whether the last holder ended without leaving in order. Raises EmbeddedError on entry when
    another process holds it, or when the folder cannot be written to.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._descriptor = -1
        self.previous_was_killed = False

    def __enter__(self) -> Self:
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(f"cannot write to the state folder {self._state}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise EmbeddedError(
                f"another Darkroom (process {holder}) is running on the state folder {self._state}"
            ) from error
        try:
            self.previous_was_killed = bool(os.pread(self._descriptor, 32, 0))
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:  # a full disk
            os.close(self._descriptor)
            raise EmbeddedError(f"cannot write to the state folder {self._state}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
