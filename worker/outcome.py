"""The small file by which the work process tells its supervisor how it ended, in the attempt's own folder."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darkroom.store.job_repository import Failure

End = Literal["finished", "stopped", "failed", "crashed"]
_NAME = "outcome.json"
_PID = "pid"
_RESERVE = "reserve"


@dataclass(frozen=True)
class Outcome:
    """finished: all is done and stored. stopped: it was asked to stop, and has stored its state. failed: for good.

    crashed: the cause may go away, so the job is tried again.
    """

    end: End
    failure: Failure | None = None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write the outcome. A process that ends without one has crashed."""
    failure = outcome.failure
    data = {"end": outcome.end, "failure": failure.as_json() if failure else None}
    part = folder / f"{_NAME}.{os.getpid()}"  # several ranks may fail at once
    try:
        part.write_text(json.dumps(data), encoding="utf-8")
    except OSError:  # the disk is full, which may be what the outcome says
        (folder / _RESERVE).unlink(missing_ok=True)
        part.write_text(json.dumps(data), encoding="utf-8")
    part.replace(folder / _NAME)


def reserve_room(folder: Path) -> None:
    """Keep room for the outcome, so that it can be written when the disk is full."""
    (folder / _RESERVE).write_bytes(bytes(1 << 14))


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome that was written, or None."""
    try:
        data = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    failure = data["failure"]
    return Outcome(data["end"], Failure(failure["kind"], failure["detail"]) if failure else None)


def write_pid(folder: Path) -> None:
    """Write which process takes SIGTERM: with several ranks the supervisor's child is only their launcher."""
    (folder / _PID).write_text(str(os.getpid()), encoding="ascii")


def read_pid(folder: Path) -> int | None:
    """The process that takes SIGTERM, or None before it begins."""
    try:
        return int((folder / _PID).read_text(encoding="ascii") or 0) or None
    except FileNotFoundError:
        return None
