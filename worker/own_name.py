"""Gives each worker a name of its own, because its record and its claims go by the name."""

import fcntl
import os
import tempfile
from pathlib import Path

from darkroom.model.digest import digest_of


def take_name(name: str, database_url: str) -> str:
    """Return `name`; if another worker of this machine has it for the same database, `name-2`, `name-3` and so on.

    This process holds the name until it ends, however it ends.
    """
    number = 1
    while True:
        own = name if number == 1 else f"{name}-{number}"
        digest = digest_of(f"{own}\n{database_url}".encode()).removeprefix("sha256:")[:16]
        path = Path(tempfile.gettempdir(), f"darkroom-worker-{os.geteuid()}-{digest}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            number += 1
        else:
            return own  # the descriptor stays open
