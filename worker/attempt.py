"""One attempt at a job, as a work function receives it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom.store.database import Database
from darkroom.store.job_repository import Lease
from darkroom.store.tables import Job


@dataclass(frozen=True)
class Attempt:
    """lease: proves the claim in every write. should_stop: returns True when the work must store its state and return.

    cache: of decoded data sets.
    """

    job: Job
    lease: Lease
    database: Database
    device: torch.device
    should_stop: Callable[[], bool]
    cache: Path
