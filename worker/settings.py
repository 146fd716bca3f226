"""What the operator sets for a worker and for the reconciler: environment variables."""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field

from darkroom.store.job_repository import Claimant
from darkroom.store.operator_settings import OperatorSettings


def _detected_device() -> Literal["cpu", "cuda"]:
    """CUDA where the driver is there; found without torch, which a supervisor does not import."""
    return "cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu"


class ReconcilerSettings(OperatorSettings):
    """Every field is the environment variable DARKROOM_<FIELD>, but for DATABASE_URL, which it needs."""

    database_url: str = Field(min_length=1, validation_alias="DATABASE_URL", description="PostgreSQL")
    artifacts_url: str | None = Field(None, description="where bytes go instead of the database (fsspec)")
    beat_seconds: float = Field(
        10.0, gt=0.0, description="between two renewals of a lease, and between two looks of an idle worker for jobs"
    )
    reconcile_seconds: float = Field(10.0, gt=0.0, description="between two rounds of the reconciler")
    device_patience_seconds: float = Field(600.0, gt=0.0, description="for a worker with the device to appear")
    alive_file: Path | None = Field(None, description="which the reconciler touches after each round, for a probe")


class WorkerSettings(ReconcilerSettings):
    """Every field is the environment variable DARKROOM_<FIELD>, but for DATABASE_URL and REDIS_URL, which it needs."""

    redis_url: str = Field(min_length=1, validation_alias="REDIS_URL", description="the broker")
    worker_name: str = Field(default_factory=socket.gethostname, description="must differ between workers")
    worker_device: Literal["cpu", "cuda"] = Field(default_factory=_detected_device)
    worker_devices: int = Field(1, ge=1, description="devices that one job may use")
    cache_folder: Path = Field(Path(".darkroom/datasets"), description="decoded data sets")
    lease_seconds: float = Field(60.0, gt=0.0, description="how long a claim holds without a beat")
    poll_seconds: float = Field(0.5, gt=0.0, description="between two looks at the cancel flag")
    grace_seconds: float = Field(120.0, gt=0.0, description="for the last checkpoint when a run is to stop")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="of this worker's /metrics; none without it")
    metrics_host: str = Field("127.0.0.1", description="what that port listens on")
    niceness: int = Field(5, ge=0, le=19, description="of the work on a CPU, so that a service beside it goes first")

    def claimant(self) -> Claimant:
        """This process's place in the worker."""
        name = f"{self.worker_name}:{os.getpid()}"
        return Claimant(name, self.worker_device, self.worker_devices)

    def tested_devices(self) -> int:
        """How many devices must work before a job is claimed: none where it computes on the CPU."""
        return self.worker_devices if self.worker_device == "cuda" else 0
