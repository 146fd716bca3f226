"""The folder of a job's attempt, in which the work process leaves its outcome. It is locked while its worker lives."""

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkroom.worker.outcome import read_pid

PREFIX = "darkroom-job-"
YOUNG_SECONDS = 60.0
"""A folder that is younger may be about to be locked."""

log = logging.getLogger(__name__)


@contextmanager
def job_folder(job_id: int) -> Iterator[Path]:
    """Make a folder, lock it during the block, and delete it at the end."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{job_id}-") as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(folder)
        finally:
            os.close(descriptor)


def remove_left_folders() -> list[Path]:
    """Delete the folders of workers of this user that were killed on this machine, and return their paths."""
    removed = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker deletes it, it is no folder, or its worker lives and holds the lock
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                facts = os.fstat(descriptor)
                if facts.st_uid != os.geteuid() or time.time() - facts.st_mtime < YOUNG_SECONDS:
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
