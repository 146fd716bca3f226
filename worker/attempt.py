"""What a work function is given: one attempt at a job, and what it may use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom.store.database import Database
from darkroom.store.job_repository import Lease
from darkroom.store.tables import Job


@dataclass(frozen=True)
class Attempt:
    """lease: proves the claim in every write. should_stop: whether the work is to store where it is and return.

    cache: of decoded data sets.
    """

    job: Job
    lease: Lease
    database: Database
    device: torch.device
    should_stop: Callable[[], bool]
    cache: Path
