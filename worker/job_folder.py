"""The folder of a job's attempt, in which the work process leaves its outcome. It is locked while its worker lives."""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkroom.worker.outcome import read_pid, reserve_room

PREFIX = "darkroom-job-"

log = logging.getLogger(__name__)


@contextmanager
def job_folder(job_id: int) -> Iterator[Path]:
    """Make a folder, lock it during the block, and delete it at the end."""
    folder, descriptor = _locked_folder(job_id)
    try:
        reserve_room(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(job_id: int) -> tuple[Path, int]:
    """Make a folder and lock it; returns it and the descriptor that holds the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{job_id}-"))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)
        # Before it was locked, a worker that starts took it for the folder of a killed one.


def remove_left_folders() -> list[Path]:
    """Delete the folders of workers of this user that were killed on this machine, and return their paths."""
    removed = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker deletes it, it is no folder, or its worker lives and holds the lock
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                facts = os.fstat(descriptor)
                if facts.st_uid != os.geteuid():
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _works(path):  # for a worker of an earlier version, which locks nothing
                    continue
                shutil.rmtree(path)
                removed.append(path)
            finally:
                os.close(descriptor)
    if removed:
        log.info("%d folders of workers that were killed are deleted", len(removed))
    return removed


def _works(folder: Path) -> bool:
    """Return True if a process with the id of the folder's work process lives."""
    pid = read_pid(folder)
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
