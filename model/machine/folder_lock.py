"""A lock that lets only one process use a folder. It ends with the process, and its file names the holder."""

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
    """Holds `folder`/lock. The file contains the holder's process id and, if the holder serves, its address.

    flock belongs to the open file, so the lock ends even if the process is killed, and no lock is ever stale. At the
    end the file is removed, and the folder too if this lock created it and nothing else is in it.

    holder, kind, option: for messages, the program that holds such a lock, the folder's purpose, and the option that
    names another folder. previous_was_killed: true if the last holder did not release the lock.
    Raises FolderHeld on entry when another process holds the lock, and UserError when the folder is not writable.
    """

    def __init__(self, folder: Path, holder: str, kind: str, option: str) -> None:
        self._folder = folder
        self._holder = holder
        self._place = f"the {kind} {folder}"
        self._advice = f"choose another one with {option}"
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
            with suppress(OSError):  # the file may not be open
                os.close(self._descriptor)
            raise UserError(f"cannot write to {self._place}: {error.strerror}; {self._advice}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        if self._made:
            with suppress(OSError):  # the folder is not empty
                self._folder.rmdir()

    def serve_at(self, url: str) -> None:
        """Write the address where this process serves, for other commands on this machine."""
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
                    f"stop it first, or {self._advice}"
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                    return
            os.close(self._descriptor)  # the last holder has removed the file since it was opened

    def _write(self, content: str) -> None:
        """Write before truncating, so that a reader never finds an empty file."""
        os.ftruncate(self._descriptor, os.pwrite(self._descriptor, content.encode(), 0))


def state_lock(state: Path) -> FolderLock:
    """Return the lock of a state folder, which only one Darkroom at a time may use."""
    return FolderLock(state, "Darkroom", "state folder", "--state")


def run_lock(folder: Path, option: str = "--folder") -> FolderLock:
    """Return the lock of a run's folder, which only one training at a time may use."""
    return FolderLock(folder, "training", "run's folder", option)


def service_address(folder: Path) -> str | None:
    """Return the address of the service that holds the folder; None without one.

    Ignores a lock file of another user (except root), because the caller sends its key to that address.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid not in (0, os.geteuid()):
            return None
        lines = _content(descriptor).splitlines()
        # Tests the lock only when there is an address, so that a process that does not serve can always take it.
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
