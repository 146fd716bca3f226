"""One process a folder, by a lock that ends with its process; the lock's file says who holds it."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from darkroom.model.user_error import UserError

_LIMIT_BYTES = 4096


class FolderHeld(UserError):
    """Another process holds the folder."""


class FolderLock:
    """Holds `folder`/lock, which has the holder's number and, where it serves, its address on a second line.

    flock belongs to the open file: whatever kills the process frees it, so no lock is stale. The file is removed in
    the end, and with it a folder that was made for it and in which nothing else is.

    For messages, holder: who holds such a lock, kind: what the folder is, option: what names another folder.
    previous_was_killed: whether the last holder ended without leaving in order. Raises FolderHeld on entry when
    another process holds it, UserError when the folder cannot be written to.
    """

    def __init__(self, folder: Path, holder: str, kind: str, option: str) -> None:
        self._folder = folder
        self._holder = holder
        self._place = f"the {kind} {folder}"
        self._cure = f"choose another one with {option}"
        self._path = folder / "lock"
        self._descriptor = -1
        self._made = False
        self.previous_was_killed = False

    def __enter__(self) -> Self:
        try:
            self._take()
            self.previous_was_killed = bool(_content(self._descriptor))
            self._write(f"{os.getpid()}\n")
        except OSError as error:  # also a full disk
            with suppress(OSError):  # it may not be open
                os.close(self._descriptor)
            raise UserError(f"cannot write to {self._place}: {error.strerror}; {self._cure}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        if self._made:
            with suppress(OSError):  # there is something in it
                self._folder.rmdir()

    def serve_at(self, url: str) -> None:
        """Tell the commands beside this process where it serves."""
        self._write(f"{os.getpid()}\n{url}\n")

    def _take(self) -> None:
        while True:
            self._made = self._made or not self._folder.exists()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _locked(self._descriptor, fcntl.LOCK_EX):
                process = (_content(self._descriptor).splitlines() or ["unknown"])[0]
                os.close(self._descriptor)
                raise FolderHeld(
                    f"another {self._holder} (process {process}) is running on {self._place}: "
                    f"end it first, or {self._cure}"
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                    return
            os.close(self._descriptor)  # its last holder removed that file meanwhile

    def _write(self, content: str) -> None:
        """In this order a reader never finds less than there was."""
        os.ftruncate(self._descriptor, os.pwrite(self._descriptor, content.encode(), 0))


def state_lock(state: Path) -> FolderLock:
    """The lock of a state folder: one Darkroom at a time runs on it."""
    return FolderLock(state, "Darkroom", "state folder", "--state")


def run_lock(folder: Path, option: str = "--folder") -> FolderLock:
    """The lock of a run's folder: one training at a time runs in it."""
    return FolderLock(folder, "training", "run's folder", option)


def service_address(folder: Path) -> str | None:
    """Where the process that holds the folder serves; None when nobody holds it, or its holder does not serve.

    A lock of another user, root excepted, is not heeded: whoever follows it sends a key there.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid not in (0, os.geteuid()):
            return None
        lines = _content(descriptor).splitlines()
        # Only a file that names an address is tried: nobody else is kept from the lock, not even for a moment.
        return lines[1] if len(lines) == 2 and not _locked(descriptor, fcntl.LOCK_SH) else None
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    """Take the lock; False when another process holds it."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _content(descriptor: int) -> str:
    return os.pread(descriptor, _LIMIT_BYTES, 0).decode(errors="replace")
