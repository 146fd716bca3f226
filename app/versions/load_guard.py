"""Keeps a version that is too large for this process from ending it, and from ending it again at every start.

Before a load, its memory is compared with what is free. While a version loads, a file in the state folder says so, and
the process holds a lock on it. A file without a lock is left by a process that ended during the load. The next process
sets that version aside until somebody promotes it again.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from darkroom.app.versions.version import Version
from darkroom.model.checkpoint import CheckpointError
from darkroom.model.machine.memory import available_bytes

log = logging.getLogger(__name__)

BYTES_OF_A_PARAMETER = 4
COPIES = 5
"""A load may hold the bytes of the file, its tensors, the network, its graph and its session at the same time."""


def require_memory(version: Version) -> None:
    """Raise CheckpointError when a load of the version would take more memory than is free. Reads no weights."""
    header = version.header
    parameters = header.parameters + (header.snapshot_parameters if header.snapshot else 0)
    needed, free = COPIES * BYTES_OF_A_PARAMETER * parameters, available_bytes()
    if free is not None and needed > free:
        raise CheckpointError(
            f"{version.name}@{version.digest}: to load its {parameters:,} parameters takes about {needed:,} bytes of "
            f"memory, and {free:,} are free: give the API more memory, or promote a smaller version"
        )


class LoadGuard:
    """Remembers which version is loading in `folder`, and which versions ended a process. folder: None for no files."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._set_aside: dict[str, str] = {}

    @property
    def set_aside(self) -> int:
        """How many versions are set aside."""
        return len(self._set_aside)

    def look(self) -> None:
        """Set the versions aside whose load an earlier process did not survive. Call it once, at the start."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while a living process loads the version
                facts = json.load(file)
                why = f"a process ended while it loaded {facts['name']}@{facts['digest']} ({facts['at']} UTC)"
                self._set_aside[str(facts["digest"])] = why
                log.error("%s; it is set aside until somebody promotes it again, or deletes %s", why, path)

    def require_allowed(self, digest: str) -> None:
        """Raise CheckpointError for a version that is set aside."""
        why = self._set_aside.get(digest)
        if why is not None:
            raise CheckpointError(
                f"{why}, often for want of memory. It is set aside: promote it again to try once more"
            )

    def allow(self, digest: str) -> None:
        """Let a version be loaded again."""
        if self._set_aside.pop(digest, None) is not None and (path := self._path(digest)) is not None:
            path.unlink(missing_ok=True)

    @contextmanager
    def loading(self, version: Version) -> Iterator[None]:
        """Mark the version as loading during the block. Where the folder cannot be written, nothing is marked."""
        path = self._path(version.digest)
        try:
            file = None if path is None else _marked(path, version)
        except OSError as error:
            log.debug("cannot mark that %s is loading: %s", version.digest, error)
            file = None
        try:
            yield
        finally:
            if file is not None and path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                os.close(file)

    def _path(self, digest: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{digest.removeprefix('sha256:')}.json"


def _marked(path: Path, version: Version) -> int:
    """Write the file, reach the disk with it, and return its descriptor, which holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        facts = {"name": version.name, "digest": version.digest, "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"}
        os.ftruncate(file, 0)
        os.write(file, json.dumps(facts).encode())
        os.fsync(file)
    except OSError:
        os.close(file)
        raise
    return file
