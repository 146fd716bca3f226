"""Keeps how much of its memory limit a worker uses, so that the next one can say why it was killed.

When a container has no memory left, the kernel may kill all its processes: also the supervisor, which would have named
the cause. The file is on a volume, so it outlives the container.
"""

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from darkroom.model.digest import digest_of
from darkroom.model.machine.control_group import group_memory

NEAR = 0.9
"""From this share of the limit on, the kernel probably killed the worker: the last moments are not in the record."""

log = logging.getLogger(__name__)


class MemoryRecord:
    """The record of one worker, by its name. It is gone when the worker ended as it should."""

    def __init__(self, worker_name: str) -> None:
        digest = digest_of(worker_name.encode()).removeprefix("sha256:")[:16]
        self._path = Path(tempfile.gettempdir(), f"darkroom-memory-{os.geteuid()}-{digest}")

    def keep(self) -> None:
        """Write down how much is used now. Does nothing without a limit."""
        memory = group_memory()
        if memory is None:
            return
        with suppress(OSError):  # a full disk
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{memory.used / memory.limit:.3f}")

    def tell(self) -> None:
        """Log how the worker before this one was killed, if it was."""
        with suppress(OSError, ValueError):  # it has left no record, or was killed while it wrote one
            share = float(self._path.read_text())
            why = (
                ": the kernel probably killed it (OOMKilled); raise the limit, or lower training.batch_size or the "
                "width of the network"
                if share >= NEAR
                else ""
            )
            log.warning("the worker before this one was killed at %.0f%% of its memory limit%s", 100 * share, why)

    def end(self) -> None:
        """Delete the record: this worker ends as it should."""
        self._path.unlink(missing_ok=True)
